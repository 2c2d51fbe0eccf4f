// Charts to explore: values under the pointer, each with its own step; zoom, a logarithmic axis, smoothing, and lines
// that can be left out. What stands in the page is drawn anew from the data beside it once somebody asks for more.
const SVG = document.querySelector("figure svg")?.namespaceURI;
const SHARES = [0, 0.01, 0.02, 0.04, null, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]; // of the line that is averaged; null: as written
const ROUNDING = 3e-7; // of the larger end: values nearer than that are one, some of them in float32

function shape(name, kind, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  if (kind) made.setAttribute("class", kind);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function scale(low, high, start, end, log) {
  const bend = log ? Math.log10 : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const to = (value) => Math.round((start + (bend(value) - a) / (b - a) * (end - start)) * 10) / 10;
  return Object.assign(to, { low, high, log });
}

function ticksOf({ low, high, log }, count) {
  if (log) {
    const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high)), found = [];
    for (let p = first; p <= last; p += Math.max(1, Math.floor((last - first) / count) + 1)) found.push(10 ** p);
    return found.length > 1 ? found : [low, high];
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 2.5, 5, 10].find((u) => u * power >= rough * 0.999) * power, found = [];
  for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + unit * 1e-9; i++) found.push(i * unit);
  return found;
}

function short(value, share) {
  if (share) return `${Number((100 * value).toPrecision(4))} %`;
  const size = Math.abs(value);
  const words = size >= 1000 ? Math.round(value).toLocaleString("en")
    : size && size < 1e-3 ? value.toExponential(3).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
  return words.replaceAll("-", "\u2212");
}

// Centred; towards the ends narrower, down to half.
function average(points, share, log) {
  const reach = Math.floor(points.length * share / 2), bend = log ? Math.log10 : (y) => y;
  if (reach < 1) return points;
  const sums = [0];
  for (const [, y] of points) sums.push(sums.at(-1) + bend(y));
  return points.map(([x], at) => {
    const side = Math.max(reach >> 1, Math.min(reach, at, points.length - 1 - at));
    const start = Math.max(0, at - side), end = Math.min(points.length, at + side + 1);
    const mean = (sums[end] - sums[start]) / (end - start);
    return [x, log ? 10 ** mean : mean];
  });
}

// The place of the point next to x; points of a path need not be in the order of x.
function nearest(points, x) {
  let best = 0;
  points.forEach(([a], at) => { if (Math.abs(a - x) < Math.abs(points[best][0] - x)) best = at; });
  return best;
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.svg = figure.querySelector("svg");
    this.output = figure.querySelector("output");
    this.caption = figure.querySelector("figcaption b");
    this.hidden = new Set();
    this.range = null; // of the horizontal axis; null: all of it
    this.share = null; // smoothing; null: as it was written
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    this.tip.setAttribute("role", "status");
    figure.append(this.tip);
    this.svg.tabIndex = 0;
    this.listen();
  }

  // The data are unpacked when they are first needed.
  ready() {
    this.loading ??= dataOf(this.figure).then((data) => {
      this.data = data;
      this.log = data.log;
      const xs = data.series.flatMap((one) => one.points.length ? [one.points[0][0], one.points.at(-1)[0]] : []);
      for (const one of data.series) if (one.ends) xs.push(...one.points.map(([x]) => x));
      this.whole = [Math.min(...xs), Math.max(...xs)];
      if (this.whole[0] === this.whole[1]) this.whole[1] += 1;
      this.steps = [...new Set(data.series.flatMap((one) => one.points.map(([x]) => x)))].sort((a, b) => a - b);
      this.buttons();
      this.keys();
    });
    return this.loading;
  }

  buttons() {
    const { series, stacked, share } = this.data;
    this.all = element("button", "", "see all");
    this.all.hidden = true;
    this.all.addEventListener("click", () => this.zoom(null));
    this.figure.querySelector("figcaption").append(this.all);
    if (stacked || share || !series.some((one) => one.points.some(([, y]) => y > 0))) return;
    const log = element("button", "", "log");
    log.setAttribute("aria-pressed", this.log);
    log.title = "logarithmic axis";
    log.addEventListener("click", () => {
      this.log = !this.log;
      log.setAttribute("aria-pressed", this.log);
      this.caption.textContent = this.caption.textContent.replace(", logarithmic", "") + (this.log ? ", logarithmic" : "");
      this.draw();
    });
    this.figure.querySelector("figcaption").append(log);
  }

  // A click on a name of the legend leaves its line out, and what stands in its colour without a name of its own.
  keys() {
    const named = this.data.series.filter((one) => one.listed !== false);
    const keys = [...this.figure.querySelectorAll(".legend span")];
    keys.forEach((key, i) => {
      const own = this.data.series.filter((one) => one === named[i] || (one.listed === false && one.slot === named[i].slot));
      const toggle = () => {
        const off = !this.hidden.has(named[i]);
        for (const one of own) this.hidden[off ? "add" : "delete"](one);
        key.setAttribute("aria-pressed", !off);
        this.draw();
      };
      key.tabIndex = 0;
      key.setAttribute("role", "button");
      key.setAttribute("aria-pressed", "true");
      key.addEventListener("click", toggle);
      key.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
      });
    });
  }

  get shown() { return this.data.series.filter((one) => !this.hidden.has(one)); }

  get plot() { return this.data.plot; }

  get x() { return scale(...(this.range ?? this.whole), this.plot[0], this.plot[1], false); }

  // ---- drawing ----------------------------------------------------------------------------------------------------

  draw() {
    const x = this.x, y = this.upright(x), [left, right, top, bottom] = this.plot;
    this.figure.classList.toggle("zoomed", Boolean(this.range));
    this.all.hidden = !this.range;
    const inside = shape("svg", "", { x: left, y: top - 4, width: right - left + 4, height: bottom - top + 8,
      viewBox: `${left} ${top - 4} ${right - left + 4} ${bottom - top + 8}` });
    const drawn = this.data.stacked ? this.stack(x, y) : this.shown.map((one) => this.series(one, x, y));
    inside.append(...drawn);
    const grid = this.grid(x, y);
    this.svg.replaceChildren(...(this.data.stacked ? [inside, ...grid] : [...grid, inside]));
    if (this.cursor !== undefined) this.read(this.cursor);
  }

  within(points, [low, high]) { return points.filter(([a]) => a >= low && a <= high); }

  upright(x) {
    const { zero, share, guide, stacked } = this.data, [, , top, bottom] = this.plot;
    if (stacked) return scale(0, 1, bottom, top, false);
    const ys = this.shown.flatMap((one) => {
      const kept = this.within(one.points, [x.low, x.high]).map(([, y]) => y);
      return [...kept, ...(one.ends ?? []).filter((_, i) => one.points[i][0] >= x.low && one.points[i][0] <= x.high).flat()];
    }).filter((y) => y !== null && (!this.log || y > 0));
    if (guide && !this.range && !(this.log && guide[0] <= 0)) ys.push(guide[0]);
    const [low, high] = ys.length ? [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))] : [0.1, 1];
    if (this.log) return scale(low / 1.2, high * 1.2, bottom, top, true);
    const apartAtAll = high - low > ROUNDING * Math.max(Math.abs(low), Math.abs(high));
    const pad = apartAtAll ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 1;
    const floor = low >= 0 && (zero || low < 0.35 * high) && !this.range ? 0 : low - pad;
    const ceiling = share && high <= 1 ? Math.min(high + pad, 1) : high + pad;
    return scale(floor, Math.max(ceiling, floor + pad), bottom, top, false);
  }

  grid(x, y) {
    const [left, right, , bottom] = this.plot, { guide, across, share } = this.data;
    const words = (at, up, anchor, text) => {
      const made = shape("text", "tick", { x: at, y: up, "text-anchor": anchor });
      made.textContent = text;
      return made;
    };
    const line = (value, kind) => shape("path", kind, { d: `M${left} ${y(value)}H${right}` });
    const made = ticksOf(y, 4).flatMap((tick) =>
      [line(tick, "rule"), words(left - 6, y(tick) + 3.5, "end", tick ? short(tick, share) : share ? "0 %" : "0")]);
    for (const tick of ticksOf(x, 5).filter((t) => x(t) > left + 12)) {
      if (across !== "step" || Number.isInteger(tick)) made.push(words(x(tick), bottom + 17, "middle", tick ? short(tick) : "0"));
    }
    made.push(words(left - 6, bottom + 17, "end", across));
    if (guide && guide[0] >= y.low && guide[0] <= y.high) {
      made.push(line(guide[0], "guide"), words(right, y(guide[0]) - 4, "end", guide[1]));
    }
    return made;
  }

  path(points, x, y) {
    const kept = this.log ? points.filter(([, b]) => b > 0) : points;
    if (kept.length === 1) return `M${x(kept[0][0]) - 3} ${y(kept[0][1])}h6`;
    return kept.length ? `M${kept.map(([a, b]) => `${x(a)} ${y(b)}`).join("L")}` : "M0 0";
  }

  // Drawn points: those in sight and one at either side.
  near(points, x) {
    const found = points.findIndex(([a]) => a >= x.low), from = Math.max(0, (found < 0 ? points.length : found) - 1);
    const end = points.findIndex(([a]) => a > x.high);
    return points.slice(from, end < 0 ? undefined : end + 1);
  }

  series(one, x, y) {
    const group = shape("g", `c${one.slot}`), name = shape("title");
    name.textContent = one.label;
    group.append(name);
    if (one.ends) return this.dots(group, one, x, y);
    const share = one.smooth === undefined ? 0 : this.share ?? one.smooth;
    const smooth = average(one.means ?? one.points, share, this.log);
    const strong = smooth === one.points;
    group.append(shape("path", strong ? "line" : "line faint", { d: this.path(this.near(one.points, x), x, y) }));
    if (!strong) group.append(shape("path", "line", { d: this.path(this.near(smooth, x), x, y) }));
    return group;
  }

  dots(group, one, x, y) {
    const kept = one.points.map((point, i) => [...point, ...one.ends[i]])
      .filter(([a, b]) => a >= x.low && a <= x.high && (!this.log || b > 0));
    const end = (value, b) => y(Math.max(value ?? b, this.log ? y.low : -Infinity));
    if (one.joined && kept.length) {
      const upper = kept.map(([a, b, , high]) => `${x(a)} ${end(high, b)}`);
      const lower = kept.map(([a, b, low]) => `${x(a)} ${end(low, b)}`).reverse();
      if (kept.length > 1) group.append(shape("path", "band", { d: `M${[...upper, ...lower].join("L")}Z` }));
      group.append(shape("path", "line thin", { d: this.path(kept, x, y) }));
    }
    for (const [a, b, low, high] of kept) {
      const dot = shape("g", "dot");
      if (low !== null && low !== high) dot.append(shape("path", "", { d: `M${x(a)} ${end(high, b)}L${x(a)} ${end(low, b)}` }));
      dot.append(shape("circle", "", { cx: x(a), cy: y(b), r: 3 }));
      group.append(dot);
    }
    return group;
  }

  stack(x, y) {
    let under = this.steps.map(() => 0);
    return this.shown.map((one) => {
      const over = one.points.map(([, b], i) => under[i] + b);
      const edge = (values) => one.points.map(([a], i) => `${x(a)} ${y(values[i])}`);
      const made = shape("path", `area c${one.slot}`, { d: `M${[...edge(over), ...edge(under).reverse()].join("L")}Z` });
      under = over;
      return made;
    });
  }

  // ---- reading ----------------------------------------------------------------------------------------------------

  // Values at a place of the horizontal axis: of each line its nearest, and where that is.
  read(x) {
    const lines = this.shown.filter((one) => one.points.length)
      .map((one) => ({ one, at: nearest(one.points, x) })).map(({ one, at }) => ({ one, at, point: one.points[at] }));
    if (!lines.length) return;
    const step = lines.map(({ point }) => point[0]).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
    const { across, share } = this.data, to = this.x;
    this.cursor = step;
    this.tip.replaceChildren(element("b", "", `${across} ${short(step)}`), ...lines.map(({ one, at, point: [own, y] }) => {
      const line = element("span", `c${one.slot}`), [low, high] = one.ends?.[at] ?? [null, null];
      const even = Math.abs(high + low - 2 * y) < 1e-3 * Math.abs(high - low), half = Number(((high - low) / 2).toPrecision(2));
      const interval = low === null || low === high ? ""
        : even ? `\u00a0±\u00a0${short(half, share)}` : ` [${short(low, share)}, ${short(high, share)}]`;
      const name = one.label.replace(" ± standard error", "");
      line.append(element("i", one.ends ? "ring" : "bar"), `${name} `, element("strong", "", short(y, share)), interval,
        own === step ? "" : ` at ${across} ${short(own)}`);
      return line;
    }));
    const at = to(step), [left, right, top, bottom] = this.plot;
    this.mark ??= shape("path", "cursor");
    this.mark.setAttribute("d", `M${at} ${top}V${bottom}`);
    this.svg.append(this.mark);
    this.tip.hidden = false;
    this.tip.classList.toggle("left", at > (left + right) / 2);
  }

  leave() {
    this.cursor = undefined;
    this.mark?.remove();
    this.tip.hidden = true;
  }

  zoom(range) {
    const together = this.figure.parentElement.charts ?? [this];
    const all = this.figure.parentElement.together ? together : [this];
    for (const chart of all) {
      chart.ready().then(() => {
        if (chart.data.across !== this.data.across || chart.data.stacked) return;
        const within = range && [Math.max(range[0], chart.whole[0]), Math.min(range[1], chart.whole[1])];
        chart.range = within && within[1] > within[0] ? within : null;
        chart.draw();
      });
    }
  }

  place(event) {
    const box = this.svg.getBoundingClientRect(), [left, right] = this.plot, x = this.x;
    const pixel = (event.clientX - box.left) * this.svg.viewBox.baseVal.width / box.width;
    return x.low + (Math.min(right, Math.max(left, pixel)) - left) / (right - left) * (x.high - x.low);
  }

  listen() {
    const { svg } = this;
    let from = null;
    const chosen = shape("rect", "chosen");
    svg.addEventListener("pointerenter", () => this.ready());
    svg.addEventListener("pointerdown", (event) => this.ready().then(() => {
      if (this.data.stacked || event.button) return;
      from = this.place(event);
      if (event.pointerType === "mouse") svg.setPointerCapture(event.pointerId);
    }));
    svg.addEventListener("pointermove", (event) => this.ready().then(() => {
      const x = this.place(event), to = this.x;
      this.read(x);
      if (from === null) return;
      const [a, b] = [to(Math.min(from, x)), to(Math.max(from, x))], [, , top, bottom] = this.plot;
      for (const [key, value] of Object.entries({ x: a, y: top, width: b - a, height: bottom - top })) chosen.setAttribute(key, value);
      svg.append(chosen);
    }));
    const end = (event) => {
      chosen.remove();
      if (from === null) return;
      const range = [Math.min(from, this.place(event)), Math.max(from, this.place(event))], x = this.x;
      from = null;
      if (event.type === "pointerup" && x(range[1]) - x(range[0]) > 6) this.zoom(range);
    };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("pointerleave", () => { if (from === null) this.leave(); });
    svg.addEventListener("dblclick", () => this.ready().then(() => this.zoom(null)));
    svg.addEventListener("blur", () => this.leave());
    svg.addEventListener("keydown", (event) => this.ready().then(() => this.key(event)));
  }

  key(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const x = this.x, sight = this.within(this.steps.map((step) => [step]), [x.low, x.high]).map(([step]) => step);
    if (move) {
      const at = this.cursor === undefined ? (move > 0 ? -1 : sight.length) : sight.indexOf(this.cursor);
      this.read(sight[Math.max(0, Math.min(sight.length - 1, at + move * (event.shiftKey ? 10 : 1)))]);
    } else if (event.key === "+" || event.key === "-") {
      const middle = this.cursor ?? (x.low + x.high) / 2, half = (x.high - x.low) * (event.key === "+" ? 0.25 : 1);
      const range = [Math.max(this.whole[0], middle - half), Math.min(this.whole[1], middle + half)];
      this.zoom(range[0] === this.whole[0] && range[1] === this.whole[1] ? null : range);
    } else if (event.key === "Escape" || event.key === "0") { this.zoom(null); this.leave(); }
  }
}

// Charts of one part: smoothing for all of them, and whether they zoom together.
function tools(bar) {
  const grid = bar.nextElementSibling, [slider, together] = bar.querySelectorAll("input");
  const told = bar.querySelector("output");
  const tell = () => {
    const share = SHARES[slider.value];
    told.textContent = share === null ? "as written" : share ? `${100 * share} % of a line` : "none";
    return share;
  };
  grid.together = together.checked;
  together.addEventListener("change", () => { grid.together = together.checked; });
  slider.addEventListener("input", () => {
    const share = tell();
    for (const chart of grid.charts) chart.ready().then(() => { chart.share = share; chart.draw(); });
  });
  tell();
  bar.hidden = false;
}

for (const figure of document.querySelectorAll("figure.chart")) {
  if (!figure.querySelector('script[type="application/json"]')) continue;
  const chart = new Chart(figure);
  (figure.parentElement.charts ??= []).push(chart);
}
for (const bar of document.querySelectorAll(".tools")) tools(bar);
