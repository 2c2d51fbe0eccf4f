// The browser of items. The page says everything else without it.
const ROW = 56; // pixels, as in the style

class Items {
  constructor(index) {
    this.index = index;
    this.of = index.ids.map(() => []);
    index.verdicts.item.forEach((item, n) => this.of[item].push(n));
    this.scores = new Map(); // "item metric" to {model: value}
    const { item, model, metric, value } = index.scores;
    item.forEach((it, n) => {
      const key = `${it} ${metric[n]}`;
      if (!this.scores.has(key)) this.scores.set(key, {});
      this.scores.get(key)[model[n]] = value[n];
    });
    this.shown = [];
    this.at = 0;
    this.asked = 0;
    this.words = "";
    this.grab();
    this.fill();
    this.listen();
    this.find();
  }

  grab() {
    for (const id of ["browser", "words", "first", "second", "by", "outcome", "category", "count", "list", "rows", "item"]) {
      this[`$${id}`] = document.getElementById(id);
    }
    this.$browser.hidden = false;
  }

  fill() {
    const { models, pair, categories } = this.index;
    for (const [select, chosen] of [[this.$first, pair[0]], [this.$second, pair[1]]]) {
      models.forEach((name, i) => select.append(new Option(name, i, false, i === chosen)));
      select.closest("label").hidden = models.length < (select === this.$first ? 1 : 2);
    }
    this.$category.append(new Option("all", ""), ...categories.map((name, i) => new Option(name || "(none)", i)));
    this.$category.closest("label").hidden = categories.length < 2;
    if (this.index.verdicts.item.length) this.$by.append(new Option("verdicts", ""));
    this.$by.append(...this.index.metrics.map((name, i) => new Option(name, i)));
    this.$by.closest("label").hidden = this.$by.options.length < 2;
    this.$outcome.closest("label").hidden = !this.$by.options.length;
  }

  listen() {
    let waiting = 0;
    this.$words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.find(), 180); });
    for (const select of [this.$first, this.$second, this.$by, this.$outcome, this.$category]) {
      select.addEventListener("change", () => this.find());
    }
    document.querySelector(".finder").addEventListener("submit", (event) => event.preventDefault());
    this.$list.addEventListener("scroll", () => this.draw());
    this.$list.addEventListener("click", (event) => {
      const entry = event.target.closest(".entry");
      if (entry) this.choose(Number(entry.dataset.at));
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (typing && event.key === "Escape") { event.target.blur(); this.$list.focus(); return; }
    if (typing) return;
    const arrows = this.$list.contains(document.activeElement);
    const step = { j: 1, k: -1, ...(arrows ? { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 } : {}) }[event.key];
    if (event.key === "/") { event.preventDefault(); this.$words.focus(); this.$words.select(); }
    else if (step) { event.preventDefault(); this.choose(this.at + step); }
    else if (arrows && event.key === "Home") { event.preventDefault(); this.choose(0); }
    else if (arrows && event.key === "End") { event.preventDefault(); this.choose(this.shown.length - 1); }
  }

  get pair() { return [Number(this.$first.value), Number(this.$second.value)]; }

  outcome(item) {
    const by = this.$by.value;
    if (by) return outcomeOfScores(this.scores.get(`${item} ${by}`), ...this.pair);
    return outcomeOf(this.index, this.of[item], ...this.pair);
  }

  async find() {
    const turn = ++this.asked;
    const words = this.$words.value.trim().toLowerCase();
    const { outcome, category } = { outcome: this.$outcome.value, category: this.$category.value };
    let found = this.index.ids.map((_, i) => i);
    if (category !== "") found = found.filter((i) => this.index.of[i] === Number(category));
    if (outcome) found = found.filter((i) => fits(this.outcome(i), outcome));
    if (words) found = await this.search(words, found, turn);
    if (turn !== this.asked) return; // asked anew meanwhile
    this.words = words;
    const before = this.shown[this.at];
    this.shown = found;
    this.$count.textContent = found.length === this.index.ids.length
      ? `${found.length.toLocaleString("en")} items`
      : `${found.length.toLocaleString("en")} of ${this.index.ids.length.toLocaleString("en")} items`;
    this.choose(Math.max(0, found.indexOf(before)));
  }

  async search(words, among, turn) {
    const found = [];
    let part = -1, rows = null;
    for (const item of among) {
      const number = partOf(this.index, item);
      if (number !== part) {
        [part, rows] = [number, await texts(number)];
        if (turn !== this.asked) return [];
        this.$count.textContent = `searching, ${Math.round(100 * number / this.index.starts.length)} %`;
      }
      const row = rows[item - this.index.starts[part]];
      row.all ??= JSON.stringify([this.index.ids[item], row.prompt, row.reference, row.answers.map((x) => x[2]),
        row.verdicts.map((x) => [x[1], x[2], x[3]])]).replaceAll("\\n", " ").replaceAll('\\"', '"').toLowerCase();
      if (row.all.includes(words)) found.push(item);
    }
    return found;
  }

  choose(at) {
    this.at = Math.min(Math.max(0, at), Math.max(0, this.shown.length - 1));
    const top = this.at * ROW, height = this.$list.clientHeight;
    if (top < this.$list.scrollTop) this.$list.scrollTop = top;
    else if (top + ROW > this.$list.scrollTop + height) this.$list.scrollTop = top + ROW - height;
    this.draw();
    this.show().catch((error) => this.fail(error));
  }

  draw() {
    const first = Math.max(0, Math.floor(this.$list.scrollTop / ROW) - 5);
    const last = Math.min(this.shown.length, first + Math.ceil(this.$list.clientHeight / ROW) + 10);
    this.$rows.style.height = `${this.shown.length * ROW}px`;
    const made = [];
    for (let at = first; at < last; at += 1) made.push(this.entry(at));
    this.$rows.replaceChildren(...made);
    if (this.shown.length) this.$list.setAttribute("aria-activedescendant", `entry-${this.at}`);
    else this.$list.removeAttribute("aria-activedescendant");
  }

  entry(at) {
    const item = this.shown[at], { mean, missing, words: values } = this.outcome(item);
    const made = element("div", "entry");
    made.id = `entry-${at}`;
    made.dataset.at = at;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", at === this.at);
    made.style.top = `${at * ROW}px`;
    const words = mean === null ? (missing ? "missing" : "") : mean > 0.5 ? "first" : mean < 0.5 ? "second" : "equal";
    const kind = { first: "won", second: "lost", missing: "lacks" }[words] || "";
    const head = element("b");
    head.append(element("span", "", this.index.ids[item]), element("span", kind, values ?? words));
    made.append(head, element("p", "", this.index.heads[item]));
    return made;
  }

  async show() {
    const item = this.shown[this.at];
    if (item === undefined) { this.$item.replaceChildren(element("p", "note said", "No item is so.")); return; }
    const part = partOf(this.index, item);
    const row = (await texts(part))[item - this.index.starts[part]];
    if (item !== this.shown[this.at]) return;
    this.$item.replaceChildren(this.asking(item, row), this.answers(row), this.others(row), this.verdicts(row));
  }

  asking(item, row) {
    const made = element("div", "asked"), category = this.index.categories[this.index.of[item]];
    made.append(element("h3", "", this.index.ids[item] + (category ? ` · ${category}` : "")));
    made.append(row.prompt ? marked("text", row.prompt, this.words) : element("p", "note", "(the prompt is not there)"));
    if (row.reference) {
      const folded = element("details");
      folded.append(element("summary", "", "Reference"), marked("text", row.reference, this.words));
      made.append(folded);
    }
    return made;
  }

  answers(row) {
    const made = element("div", "answers");
    for (const model of new Set(this.pair)) {
      const own = row.answers.filter((answer) => answer[0] === model);
      if (!own.length && this.index.models[model] !== undefined) own.push([model, 0, null, 0, "", null]);
      made.append(...own.map((answer) => this.answer(answer, row)));
    }
    return made;
  }

  others(row) {
    const rest = row.answers.filter((answer) => !this.pair.includes(answer[0]));
    const made = element("details", "others");
    made.hidden = !rest.length;
    made.append(element("summary", "", `Answers of other models: ${rest.length}`));
    made.append(...rest.map((answer) => this.answer(answer, row)));
    return made;
  }

  answer([model, sample, text, length, stop, tokens], row) {
    const said = element("div", "said"), who = element("p", "who");
    const scores = row.scores.filter((s) => s[0] === model && s[1] === sample)
      .map((s) => `${s[2]} ${s[3] === null ? `missing: ${s[4]}` : s[3]}`);
    const about = [text === null ? "" : `${length.toLocaleString("en")} characters`,
      tokens === null ? "" : `${tokens.toLocaleString("en")} tokens`, stop, ...scores];
    who.append(element("b", "", this.index.models[model] + (sample ? ` (sample ${sample})` : "")),
      element("span", "", about.filter(Boolean).join(" · ")));
    said.append(who, text === null ? element("p", "note", "(no answer)")
      : text.trim() ? marked("text", text, this.words) : element("p", "note", "(empty)"));
    return said;
  }

  verdicts(row) {
    const made = element("div", "verdicts"), [first, second] = this.pair, { a, b } = this.index.verdicts;
    const within = (n) => [first, second].includes(a[n]) && (b[n] < 0 || [first, second].includes(b[n]));
    const own = row.verdicts.filter(([n]) => within(n)), others = row.verdicts.filter(([n]) => !within(n));
    made.hidden = !this.index.verdicts.item.length; // of tasks that nobody judges
    made.append(element("h4", "", own.length ? "Verdicts" : "No verdicts on these two"));
    made.append(...own.flatMap((verdict) => this.verdict(verdict)));
    if (others.length) {
      const folded = element("details");
      folded.open = !own.length;
      folded.append(element("summary", "", `Verdicts on other models: ${others.length}`));
      folded.append(...others.flatMap((verdict) => this.verdict(verdict)));
      made.append(folded);
    }
    return made;
  }

  verdict([n, raw, why, flags]) {
    const { judge, repeat, score } = this.index.verdicts;
    const line = element("p", score[n] === null ? "verdict lacks" : "verdict");
    line.append(element("b", "", this.index.judges[judge[n]]), `: ${told(this.index, n)}`);
    if (repeat[n]) line.append(`, asked again (${repeat[n]})`);
    if (why) line.append(` · ${why}`);
    if (flags.length) line.append(` · ${flags.join(" · ")}`);
    if (!raw) return [line];
    const folded = element("details");
    folded.append(element("summary", "", "What the judge wrote"), marked("text", raw, this.words));
    return [line, folded];
  }

  fail(error) { this.$item.replaceChildren(element("p", "note said", failure(error))); }
}

function failure(error) {
  return `This browser cannot unpack the items (${error.message}). All numbers above are whole; `
    + "align-eval inspect FOLDER ITEM shows an item in a terminal.";
}

function start() {
  const data = document.getElementById("index");
  if (!data) return;
  unpack(data.textContent).then((index) => new Items(index)).catch((error) => {
    document.getElementById("items").append(element("p", "note", failure(error)));
  });
}

if (typeof document !== "undefined") start();
