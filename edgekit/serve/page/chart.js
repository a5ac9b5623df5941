// A small line chart in SVG: some series over the last two minutes.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 20;

export class Chart {
  // `series`: [{name, colour: 0-5, dashed, area}], `span`: seconds that are shown, `log`: scale.
  constructor(root, series, { span = 120, unit = "", label = "", log = false } = {}) {
    Object.assign(this, { root, series, span, unit, label, log, points: [], pointer: null });
    this.legend = element(root, "ul", "legend");
    this.items = series.map(({ name, colour }) => {
      const item = element(this.legend, "li", `s${colour}`);
      element(item, "span", "key");
      item.append(`${name} `);
      return element(item, "b");
    });
    root.before(this.legend);
    this.svg = root.appendChild(document.createElementNS(SVG, "svg"));
    this.svg.setAttribute("role", "img");
    root.addEventListener("pointermove", (event) => this.point(event.offsetX));
    root.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  // `points`: [{time in seconds, values: [a number or null for each series]}], oldest first.
  show(points) {
    this.points = points;
    this.draw();
  }

  point(x) {
    this.pointer = x;
    this.draw();
  }

  draw() {
    const { width, height } = this.root.getBoundingClientRect();
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    const now = this.points.at(-1)?.time ?? 0;
    const values = this.points.flatMap((point) => point.values.filter((value) => value !== null));
    const { ticks, place } = (this.log ? logarithmic : linear)(values);
    const x = (time) => LEFT + (1 - (now - time) / this.span) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - place(value)) * (height - TOP - BOTTOM);
    this.axes(width, height, ticks, x, y, now);
    this.series.forEach((one, index) => this.line(one, index, x, y));
    const shown = this.nearest(x) ?? this.points.at(-1);
    if (this.pointer !== null && shown) this.cursor(shown, x, y, height, now);
    this.tell(shown);
  }

  axes(width, height, ticks, x, y, now) {
    for (const value of ticks) {
      this.add("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: "grid-line" });
      this.add("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, figure(value));
    }
    for (let ago = 0; ago <= this.span; ago += this.span / 4) {
      const anchor = ago === 0 ? "end" : ago === this.span ? "start" : "middle";
      const text = ago === 0 ? "now" : `-${ago} s`;
      this.add("text", { x: x(now - ago), y: height - 4, "text-anchor": anchor }, text);
    }
  }

  line({ colour, dashed, area }, index, x, y) {
    for (const run of runs(this.points, index)) {
      const path = run.map((point) => `${x(point.time).toFixed(1)} ${y(point.values[index]).toFixed(1)}`);
      if (area && run.length > 1) {
        const [first, last] = [x(run[0].time), x(run.at(-1).time)];
        this.add("path", { d: `M${first} ${y(0)}L${path.join("L")}L${last} ${y(0)}Z`, class: `area s${colour}` });
      }
      this.add("path", { d: `M${path.join("L")}`, class: `line s${colour}${dashed ? " dashed" : ""}` });
      if (run.length === 1) {
        this.add("circle", { cx: x(run[0].time), cy: y(run[0].values[index]), r: 2, class: `dot s${colour}` });
      }
    }
  }

  nearest(x) {
    if (this.pointer === null) return null;
    const distance = (point) => Math.abs(x(point.time) - this.pointer);
    return this.points.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
  }

  cursor(point, x, y, height, now) {
    const at = x(point.time);
    this.add("line", { x1: at, x2: at, y1: TOP, y2: height - BOTTOM, class: "cursor" });
    this.series.forEach(({ colour }, index) => {
      const value = point.values[index];
      if (value !== null) this.add("circle", { cx: at, cy: y(value), r: 3.5, class: `dot s${colour}` });
    });
    const ago = Math.round(now - point.time);
    this.add("text", { x: at, y: TOP - 1, "text-anchor": "middle" }, ago ? `-${ago} s` : "now");
  }

  tell(point) {
    const values = this.series.map((_, index) => point?.values[index] ?? null);
    this.items.forEach((item, index) => (item.textContent = figure(values[index])));
    const told = this.series.map(({ name }, index) => `${name} ${figure(values[index])}`);
    this.svg.setAttribute("aria-label", `${this.label}: ${told.join(", ")} ${this.unit}`);
  }

  add(kind, attributes, text = null) {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== null) made.textContent = text;
    this.svg.append(made);
  }
}

export function element(parent, kind, className = "", text = null) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

// A number with about three digits; a dash for what is not known.
export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10000) return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
  return Number(value.toPrecision(size >= 1000 ? 4 : 3)).toLocaleString("en", { maximumFractionDigits: 4 });
}

// Where the lines of an axis are, and at which share of its height a value is.
function linear(values) {
  const raw = (Math.max(0, ...values) || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) * power;
  const ticks = [0, 1, 2, 3].map((number) => number * step);
  return { ticks, place: (value) => value / ticks[3] };
}

function logarithmic(values) {
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(1, ...positive)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive, 10 ** low))));
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  return { ticks, place: (value) => Math.max(0, (Math.log10(value) - low) / (high - low)) };
}

// The points that follow each other without a gap.
function runs(points, index) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point.values[index] !== null) {
      if (last === null || point.time - last > 3) found.push([]);
      found.at(-1).push(point);
      last = point.time;
    } else {
      last = null;
    }
  }
  return found;
}
