// Puts the page together, follows the theme, and, where it is served, asks for what is new.

const studySection = (study, index) => {
  const drawn = new Map(), tables = new Map();
  const node = h("section", { id: `findings-${index + 1}` });
  const update = (next) => {
    for (const [caption, figure] of Object.entries(next.figures)) {
      if (drawn.has(caption)) { drawn.get(caption).update(figure); continue; }
      const one = figureChart(caption || next.title, figure);
      drawn.set(caption, one);
      node.append(one.node);
      one.draw();
    }
    for (const [caption, [header, rows]] of Object.entries(next.tables)) {
      if (!tables.has(caption)) {
        const table = sortable(caption);
        tables.set(caption, table);
        node.append(h("figure", {}, h("figcaption", {}, ...prose(caption)), table.node));
      }
      tables.get(caption).update({ header, rows });
    }
  };
  node.append(h("h2", {}, index ? study.title : "Findings"), ...(index ? paragraphs(study.text) : []));
  return { node, update };
};

const overviewSection = () => {
  const table = sortable("The runs and their final metrics");
  const node = h("section", { id: "runs" }, h("h2", {}, "Runs"), table.node,
    h("p", { class: "note" }, "Training values are means over the last tenth of the steps; test values are those of the last step. Of a run that is not finished, the newest values."));
  return { node, title: "Runs", update: ({ overview: [header, rows] }) => table.update({ header, rows }) };
};

// Families over their seeds: the table, the intervals of their differences, and what must be said with them.
const comparedSection = () => {
  const table = sortable("Families over their seeds"), notes = h("ul", { class: "note" });
  let current = null, drawn = null;
  const content = () => ({
    data: current.compared.intervals.map(([label, mean, half]) => {
      const color = colourOf(current.families.findIndex((one) => one.label === label));
      return {
        type: "scatter", mode: "markers", x: [mean], y: [label], name: label, showlegend: false, marker: { color, size: 9 },
        error_x: { type: "data", array: [half], color, thickness: 2, width: 6 }, hovertemplate: "%{x:+.3~g} ± %{error_x.array:.2~g}",
      };
    }),
    layout: {
      height: 90 + 44 * current.compared.intervals.length,
      xaxis: axis({ title: { text: "difference" }, rangemode: "tozero", zeroline: true, zerolinewidth: 2, zerolinecolor: style("quiet") }),
      yaxis: axis({ autorange: "reversed", ticklabelposition: "inside top", showgrid: false, ticks: "" }),
    },
  });
  const rows = () => ({ header: ["family", "difference", "half width of the 95 % interval"], rows: current.compared.intervals });
  table.node.classList.add("stacked");
  const node = h("section", { id: "compared" }, h("h2", {}, "Comparison"), table.node, notes);
  const update = (page) => {
    current = page;
    const { header, rows: cells, notes: said, intervals, difference } = page.compared;
    table.node.hidden = !cells.length;
    table.update({ header, rows: cells });
    notes.replaceChildren(...said.map((one) => h("li", {}, one)));
    if (!intervals.length) return;
    if (drawn === null) {
      drawn = chart({ title: `Mean difference over seeds: ${difference}`, content, rows });
      node.append(drawn.node);
    }
    drawn.draw();
  };
  return { node, title: "Comparison", update };
};

// What is the same in all, as a table of two columns, and what differs, as one of the runs.
const comparison = (label, key, what) => {
  const shared = sortable(`${what}: the same in all`), differing = sortable(`${what}: what differs`);
  const differs = h("div", {}, h("h3", {}, "What differs"), differing.node);
  const summary = h("summary", {});
  const node = h("section", { id: key }, h("h2", {}, label), differs, h("details", {}, summary, shared.node));
  return {
    node, title: label,
    update(page) {
      const { shared: same, differing: [header, rows] } = page[key];
      differs.hidden = !rows.length;
      summary.textContent = rows.length ? `The ${Object.keys(same).length} fields that are the same in all` : `All ${Object.keys(same).length} fields`;
      shared.update({ header: ["field", "value"], rows: Object.entries(same) });
      differing.update({ header, rows });
    },
  };
};

const commandSection = () => {
  const box = h("div");
  const node = h("section", { id: "commands" }, h("h2", {}, "Command"), box);
  const line = (text) => {
    const copy = h("button", { type: "button", "aria-label": `Copy the command ${text}` }, "Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    return h("div", { class: "command" }, h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, text), copy);
  };
  let known = "";
  const update = ({ commands }) => {
    if (known !== commands.join("\n")) box.replaceChildren(...commands.map(line));
    known = commands.join("\n");
    node.hidden = !commands.length;
  };
  return { node, title: "Command", update };
};

// Each part of the page: whether there is anything for it yet, and how it is made.
const PARTS = [
  ["runs", (page) => page.overview[1].length > 0, overviewSection],
  ["compared", (page) => (page.compared.notes ?? []).length > 0, comparedSection],
  ["curves", (page) => (page.curves.quantities ?? []).length > 0, curveSection],
  ["layers", (page) => (page.layers.runs ?? []).length > 0, layerSection],
  ["samples", (page) => (page.samples.runs ?? []).length > 0, sampleSection],
  ["configurations", (page) => Object.keys(page.configurations.shared).length > 0, () => comparison("Configuration", "configurations", "Configuration")],
  ["environments", (page) => Object.keys(page.environments.shared).length > 0, () => comparison("Environment", "environments", "Environment")],
  ["commands", (page) => page.commands.length > 0, commandSection],
];

const main = document.getElementById("main"), nav = document.getElementById("nav");
const title = h("h1"), text = h("div", { class: "lead" }), made = new Map();

const show = (page) => {
  title.replaceChildren(...prose(page.title));
  document.title = page.title;
  if (!made.size) main.append(title, text);
  text.replaceChildren(...paragraphs(page.studies[0]?.text ?? ""));
  const wanted = [
    ...page.studies.map((study, index) => [`findings-${index + 1}`, study, () => ({ ...studySection(study, index), title: index ? `Findings ${index + 1}` : "Findings" })]),
    ...PARTS.filter(([, there]) => there(page)).map(([key, , make]) => [key, page, () => make(page)]),
  ];
  const order = [];
  for (const [key, content, make] of wanted) {
    if (!made.has(key)) {
      made.set(key, make());
      const after = order.length ? made.get(order.at(-1)).node : text;
      after.after(made.get(key).node);
    }
    made.get(key).update(content);
    order.push(key);
  }
  nav.replaceChildren(...order.map((key) => h("a", { href: `#${key}` }, made.get(key).title)));
};

// The system's theme, unless the reader has chosen one; the browser may refuse to remember it.
const button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => { try { return localStorage.getItem("cnnjax-theme"); } catch { return null; } };
let chosen = remembered();
const applyTheme = (name) => {
  document.documentElement.dataset.theme = name;
  button.setAttribute("aria-pressed", String(name === "dark"));
  made.forEach((part) => part.theme?.());
  redraw();
};
const wantedTheme = () => chosen ?? (system.matches ? "dark" : "light");
button.addEventListener("click", () => {
  chosen = isDark() ? "light" : "dark";
  try { localStorage.setItem("cnnjax-theme", chosen); } catch { /* it lasts until the page is closed */ }
  applyTheme(chosen);
});
system.addEventListener("change", () => applyTheme(wantedTheme()));
addEventListener("beforeprint", () => applyTheme("light"));
addEventListener("afterprint", () => applyTheme(wantedTheme()));

applyTheme(wantedTheme());
show(JSON.parse(document.getElementById("content").textContent));

const live = document.getElementById("live"), address = document.documentElement.dataset.live;
const follow = async () => {
  let known = "";
  const say = (words, lost) => {
    if (live.textContent !== words) live.textContent = words;
    live.className = lost ? "lost" : "";
  };
  live.hidden = false;
  for (;;) {
    try {
      const answer = await fetch(address, { headers: known ? { "If-None-Match": known } : {}, cache: "no-store" });
      if (answer.status === 200) {
        known = answer.headers.get("ETag") ?? "";
        show(await answer.json());
      }
      say(answer.status < 400 ? "live" : "the folder can't be read", answer.status >= 400);
    } catch {
      say("connection lost", true);
    }
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
};
if (address) follow();
