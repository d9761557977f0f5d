// A chart with its tools: reset, pictures, the data as CSV and as a table.

const CONFIG = { displayModeBar: false, doubleClick: "reset" };
const LEGEND = { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 12 } };
const charts = new Set();

const axis = (more = {}) => ({
  gridcolor: style("grid"), linecolor: style("rule"), zerolinecolor: style("rule"), tickcolor: style("rule"),
  automargin: true, exponentformat: "power", ...more,
});

const layout = (more = {}) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style("text") },
  hoverlabel: { bgcolor: style("card"), bordercolor: style("rule"), font: { color: style("text") }, namelength: 40 },
  margin: { l: 56, r: 12, t: 12, b: 44 },
  ...more,
});

// `content()` gives plotly's data and layout, `rows()` the header and rows behind them.
const chart = ({ title, content, rows, note = () => "", buttons = [] }) => {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `Chart: ${title}. Its values are in the table below it.` });
  const box = h("div", { class: "plotbox" }, plot), said = h("p", { class: "note" });
  const values = sortable(`Values of the chart ${title || "above"}`), more = h("p", { class: "note" });
  const details = h("details", {}, h("summary", {}, "Show as a table"), values.node, more);
  const name = fileName(title);
  const tool = (label, said, act) => h("button", { type: "button", "aria-label": `${said}: ${title}`, onclick: act }, label);
  const picture = (format) => () => Plotly.downloadImage(plot, { format, filename: name, width: 1000, height: 560, scale: 2 });
  const node = h("div", { class: "card chart" },
    h("div", { class: "cardhead" }, h("h3", {}, ...prose(title)),
      h("div", { class: "tools" }, ...buttons,
        tool("Reset", "Reset the zoom of", () => Plotly.relayout(plot, whole())),
        tool("CSV", "Download the data of", () => download(`${name}.csv`, csv(rows()), "text/csv")),
        tool("PNG", "Download a PNG of", picture("png")),
        tool("SVG", "Download an SVG of", picture("svg")))),
    said, box, details);

  const whole = () => Object.fromEntries(
    Object.keys(plot._fullLayout).filter((key) => /^[xy]axis\d*$/.test(key)).map((key) => [`${key}.autorange`, true]));
  const tabulate = () => {
    if (!details.open) return;
    const all = rows();
    values.update(all);
    more.textContent = all.rows.length > ROWS ? `${number(ROWS)} of ${number(all.rows.length)} rows; the CSV file has all.` : "";
  };
  details.addEventListener("toggle", tabulate);

  const draw = () => {
    const { data, layout: shape } = content();
    plot.style.minHeight = shape.height ? `${shape.height}px` : "";
    said.textContent = note().replace(/<[^>]*>/g, ""); // without plotly's few tags
    said.hidden = !note();
    Plotly.react(plot, data, layout({ width: plot.clientWidth || undefined, ...shape }), CONFIG);
    tabulate();
  };
  // A chart has the width of its place, which others may narrow after it was drawn.
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width && Math.abs(contentRect.width - width) > 1 && plot._fullLayout) draw();
    width = contentRect.width;
  }).observe(box);
  charts.add(draw);
  return { node, plot, draw };
};

const redraw = () => charts.forEach((draw) => draw());

// Of a figure that is given as plotly's own: x and y, or x, y and z, of every trace.
const traceRows = (data) => {
  const rows = [], matrices = data.some((trace) => trace.z);
  data.forEach((trace, index) => {
    const name = trace.name || `series ${index + 1}`;
    if (trace.z) {
      trace.z.forEach((line, row) => line.forEach((value, column) =>
        rows.push([name, trace.x?.[column] ?? column, trace.y?.[row] ?? row, value])));
    } else {
      const length = Math.max(trace.x?.length ?? 0, trace.y?.length ?? 0);
      for (let i = 0; i < length; i++)
        rows.push([name, trace.x?.[i] ?? i, trace.y?.[i] ?? null, ...(matrices ? [null] : [])]);
    }
  });
  return { header: ["series", "x", "y", ...(matrices ? ["value"] : [])], rows };
};

const shownColour = (colour) => {
  if (!isDark() || typeof colour !== "string") return colour;
  return /^(#000(000)?|black|rgba?\(0, ?0, ?0(, ?1(\.0)?)?\))$/i.test(colour) ? style("text") : colour;
};

// Panels side by side, below each other where there is no room.
const NARROW = 620;
const stacked = (figure) => {
  const panels = figure.layout.meta?.panels ?? [], count = panels.length;
  const shape = { ...figure.layout, height: 330 * count }, places = new Map();
  const titled = (letter) => panels.map((one) => shape[one[`${letter}axis`].replace(letter, `${letter}axis`)].title).find((one) => one?.text);
  const titles = { x: titled("x"), y: titled("y") };
  panels.forEach((panel, index) => {
    const gap = 0.36 / count, band = (1 - gap * (count - 1)) / count, top = 1 - index * (band + gap);
    for (const [letter, domain] of [["x", [0, 1]], ["y", [Math.max(0, top - band), top]]]) {
      const key = panel[`${letter}axis`].replace(letter, `${letter}axis`), own = shape[key];
      shape[key] = { ...own, domain, showticklabels: true, title: own.title?.text ? own.title : titles[letter] };
    }
    places.set(panel.xaxis, { x: 1.01, y: top - band / 2, len: band });
  });
  const data = figure.data.map((trace) =>
    trace.colorbar ? { ...trace, colorbar: { ...trace.colorbar, ...places.get(trace.xaxis ?? "x") } } : trace);
  return { data, layout: shape };
};

// An experiment's figure, whose colours follow the page.
const figureChart = (title, figure) => {
  let current = figure, log = false;
  const axes = (shape) => Object.keys(shape).filter((key) => /^[xy]axis\d*$/.test(key));
  const themed = (shape) => {
    const own = { ...shape };
    for (const key of axes(shape)) {
      own[key] = { ...shape[key], ...axis() };
      if (log && key[0] === "y") Object.assign(own[key], { type: "log", autorange: true, range: undefined, tickvals: undefined, ticktext: undefined });
    }
    delete own.title;
    own.legend = { ...LEGEND, y: 0, yref: "container", yanchor: "bottom" };
    own.margin = { l: 56, r: 12, t: 48, b: 44 };
    return { ...own, uirevision: `${log}${own.height}` };
  };
  const content = () => {
    const narrow = (current.layout.meta?.panels ?? []).length > 1 && made.plot.clientWidth < NARROW;
    const { data, layout } = narrow ? stacked(current) : current;
    return { data: data.map((trace) => ({ ...trace, ...recoloured(trace) })), layout: themed(layout) };
  };
  const recoloured = (trace) => Object.fromEntries(["line", "marker"].filter((key) => trace[key])
    .map((key) => [key, { ...trace[key], color: shownColour(trace[key].color) }]));
  const button = h("button", { type: "button", "aria-pressed": "false", "aria-label": `Logarithmic axis: ${title}` }, "Log");
  button.addEventListener("click", () => {
    log = !log;
    button.setAttribute("aria-pressed", String(log));
    made.draw();
  });
  const linear = axes(figure.layout).some((key) => key[0] === "y" && figure.layout[key].type !== "log");
  const made = chart({
    title, content, rows: () => traceRows(current.data), note: () => current.layout.title?.text ?? "",
    buttons: linear && !figure.data.some((one) => one.z) ? [button] : [],
  });
  return { ...made, update(next) { current = next; made.draw(); } };
};
