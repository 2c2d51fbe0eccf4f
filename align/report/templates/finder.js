// Completions to search, filter and sort.
const SHOWN = 12; // cards at a time

class Finder {
  constructor(place, data) {
    Object.assign(this, { place, data });
    this.names = Object.keys(data.rewards);
    this.form = element("form", "controls");
    this.form.setAttribute("role", "search");
    this.count = element("output", "note");
    this.count.setAttribute("aria-live", "polite");
    this.list = element("div", "found");
    this.more = element("button", "", "Show more");
    this.more.addEventListener("click", () => this.show(this.list.children.length + SHOWN));
    this.controls();
    place.append(this.form, this.count, this.list, this.more);
    this.find();
  }

  controls() {
    const { data } = this, sorts = [["step", "step"], ["length", "length"], ...this.names.map((name, i) => [`reward ${name}`, i])];
    this.words = this.field("Search", element("input"), { type: "search", placeholder: "words of a prompt or a completion" }, "words");
    const kinds = data.kinds.map((kind, i) => [kind, i]);
    this.kind = this.select("Which", [["all", ""], ...kinds]);
    this.kind.parentElement.hidden = kinds.length < 2;
    this.stop = this.select("Ended by", [["anything", ""], ...data.stops.map((reason, i) => [reason || "(not told)", i])]);
    this.stop.parentElement.hidden = data.stops.length < 2;
    this.by = this.select("Sort by", sorts);
    this.order = this.select("", [["highest first", "-1"], ["lowest first", "1"]]);
    this.limit = this.select("Only", [["of any", ""], ...sorts]);
    [this.low, this.high] = ["from", "to"].map((name) => this.field(name, element("input"), { type: "number", step: "any" }, "limit"));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => this.find());
    let waiting = 0;
    this.form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.find(), 150); });
  }

  field(name, control, attributes = {}, kind = "") {
    const label = element("label", kind, name);
    for (const [key, value] of Object.entries(attributes)) control.setAttribute(key, value);
    if (!name) control.setAttribute("aria-label", "Order");
    label.append(control);
    this.form.append(label);
    return control;
  }

  select(name, options) {
    const made = this.field(name, element("select"));
    made.append(...options.map(([words, value]) => new Option(words, value)));
    return made;
  }

  column(name) { return this.data[name] ?? this.data.rewards[this.names[Number(name)]]; }

  find() {
    for (const end of [this.low, this.high]) end.parentElement.hidden = !this.limit.value;
    const { data } = this, words = this.words.value.trim().toLowerCase();
    let found = data.text.map((_, i) => i);
    if (this.kind.value) found = found.filter((i) => data.kind[i] === Number(this.kind.value));
    if (this.stop.value) found = found.filter((i) => data.stop[i] === Number(this.stop.value));
    if (this.limit.value) {
      const of = this.column(this.limit.value), low = this.low.value === "" ? -Infinity : Number(this.low.value);
      const high = this.high.value === "" ? Infinity : Number(this.high.value);
      found = found.filter((i) => of[i] !== null && of[i] >= low && of[i] <= high);
    }
    if (words) {
      found = found.filter((i) => data.text[i].toLowerCase().includes(words)
        || data.prompts[data.prompt[i]].toLowerCase().includes(words));
    }
    const by = this.column(this.by.value), sign = Number(this.order.value);
    const value = (i) => (by[i] === null ? Infinity : sign * by[i]); // what has none comes last
    this.found = found.sort((a, b) => value(a) - value(b) || a - b);
    this.said = words;
    const all = data.text.length.toLocaleString("en");
    this.count.textContent = found.length === data.text.length ? `${all} completions` : `${found.length.toLocaleString("en")} of ${all} completions`;
    this.show(SHOWN);
  }

  show(many) {
    this.list.replaceChildren(...this.found.slice(0, many).map((i) => this.card(i)));
    this.more.hidden = many >= this.found.length;
  }

  card(i) {
    const { data } = this, card = element("article", "sample"), asked = element("div", "asked"), said = element("div", "said");
    const facts = [
      ...this.names.filter((name) => data.rewards[name][i] !== null).map((name) => `${name} ${short(data.rewards[name][i])}`),
      data.length[i] === null ? "" : `${data.length[i].toLocaleString("en")} tokens`, data.stops[data.stop[i]],
    ];
    const who = element("p", "who");
    who.append(element("b", "", `${data.kinds[data.kind[i]]}, step ${data.step[i].toLocaleString("en")}`),
      " ", element("span", "", facts.filter(Boolean).join(" · ")));
    asked.append(this.text(data.prompts[data.prompt[i]]));
    said.append(who, this.text(data.text[i]));
    card.append(asked, said);
    return card;
  }

  text(text) { return text.trim() ? marked("text long", text, this.said) : element("p", "note", "(empty)"); }
}

// Unpacked when it is first seen: a page may hold many.
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    dataOf(target).then((data) => new Finder(target, data)).catch((error) => {
      target.append(element("p", "note", `This browser cannot unpack the completions (${error.message}); the files hold them all.`));
    });
  }
}, { rootMargin: "600px" });
for (const place of document.querySelectorAll(".finder")) seen.observe(place);
