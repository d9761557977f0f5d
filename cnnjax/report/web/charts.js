// A chart with its tools: reset, pictures, the data as CSV and as a table.

const CONFIG = { responsive: true, displayModeBar: false, doubleClick: "reset" };
const LEGEND = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" };
const charts = new Set();

const axis = (more = {}) => ({
  gridcolor: style("grid"), linecolor: style("rule"), zerolinecolor: style("rule"), tickcolor: style("rule"),
  automargin: true, ...more,
});

const layout = (more = {}) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style("text") },
  hoverlabel: { bgcolor: style("card"), bordercolor: style("rule"), font: { color: style("text") }, namelength: 40 },
  margin: { l: 56, r: 12, t: 12, b: 44 },
  ...more,
});

// `content()` gives plotly's data and layout, `rows()` the header and rows behind them.
const chart = ({ title, content, rows, level = "h3", minWidth = null, buttons = [] }) => {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `Chart: ${title}. Its values are in the table below it.` });
  const box = h("div", { class: "plotbox" }, plot);
  const values = sortable(`Values of the chart ${title}`), more = h("p", { class: "note" });
  const details = h("details", {}, h("summary", {}, "Show as a table"), values.node, more);
  const name = fileName(title);
  const tool = (label, said, act) => h("button", { type: "button", "aria-label": `${said}: ${title}`, onclick: act }, label);
  const picture = (format) => () => Plotly.downloadImage(plot, { format, filename: name, width: 1000, height: 560, scale: 2 });
  const node = h("div", { class: "card chart" },
    h("div", { class: "cardhead" }, h(level, {}, ...prose(title)),
      h("div", { class: "tools" }, ...buttons,
        tool("Reset", "Reset the zoom of", () => Plotly.relayout(plot, whole())),
        tool("CSV", "Download the data of", () => download(`${name}.csv`, csv(rows()), "text/csv")),
        tool("PNG", "Download a PNG of", picture("png")),
        tool("SVG", "Download an SVG of", picture("svg")))),
    box, details);

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
    plot.style.minWidth = minWidth ? `${minWidth}px` : "";
    if (shape.height) plot.style.minHeight = `${shape.height}px`;
    Plotly.react(plot, data, layout(shape), CONFIG);
    tabulate();
  };
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

// An experiment's figure: its colours follow the page, its panels scroll on a phone.
const figureChart = (title, figure) => {
  let current = figure, log = false;
  const axes = (shape) => Object.keys(shape).filter((key) => /^[xy]axis\d*$/.test(key));
  const columns = (shape) => new Set(axes(shape).filter((key) => key[0] === "x").map((key) => shape[key].domain?.[0] ?? 0)).size;
  const themed = (shape) => {
    const own = { ...shape };
    for (const key of axes(shape)) {
      own[key] = { ...shape[key], ...axis() };
      if (log && key[0] === "y") Object.assign(own[key], { type: "log", autorange: true, range: undefined, tickvals: undefined, ticktext: undefined });
    }
    for (const key of ["paper_bgcolor", "plot_bgcolor", "font", "template", "width"]) delete own[key];
    own.legend = { ...shape.legend, bgcolor: "rgba(0,0,0,0)", bordercolor: "rgba(0,0,0,0)", font: { color: style("text") } };
    own.annotations = (shape.annotations || []).map((one) => ({ ...one, font: { ...one.font, color: style("text") } }));
    return { ...own, uirevision: String(log) };
  };
  const content = () => ({
    data: current.data.map((trace) => ({
      ...trace,
      ...(trace.line ? { line: { ...trace.line, color: shownColour(trace.line.color) } } : {}),
      ...(trace.marker ? { marker: { ...trace.marker, color: shownColour(trace.marker.color) } } : {}),
    })),
    layout: themed(current.layout),
  });
  const button = h("button", { type: "button", "aria-pressed": "false", "aria-label": `Logarithmic axis: ${title}` }, "Log");
  button.addEventListener("click", () => {
    log = !log;
    button.setAttribute("aria-pressed", String(log));
    made.draw();
  });
  const linear = axes(figure.layout).some((key) => key[0] === "y" && figure.layout[key].type !== "log");
  const made = chart({
    title, content, rows: () => traceRows(current.data),
    minWidth: Math.max(0, columns(figure.layout) * 280), buttons: linear && !figure.data.some((one) => one.z) ? [button] : [],
  });
  return { ...made, update(next) { current = next; made.draw(); } };
};
