// Curves along training: families on and off, smoothing, logarithmic axes, seeds as a band or as lines.

const PART_NAMES = { train: "training", test: "test", averaged_test: "test of the averaged weights", "": "" };
const LOOK = { train: { width: 1.3, opacity: 0.75 }, test: { width: 2.6 }, averaged_test: { width: 2.6, dash: "dot" }, "": { width: 2 } };
const hidden = new Set(); // labels of the families that are off, for all charts of the page

// An exponential average, without the pull towards the first value's zero.
const smoothed = (values, weight) => {
  let mean = 0, total = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
};

// Mean and sample standard deviation of several curves at each step that any of them has.
const overSeeds = (curves) => {
  const at = new Map();
  for (const { x, y } of curves) x.forEach((step, i) => at.has(step) ? at.get(step).push(y[i]) : at.set(step, [y[i]]));
  const x = [...at.keys()].sort((one, other) => one - other);
  const mean = x.map((step) => at.get(step).reduce((sum, one) => sum + one, 0) / at.get(step).length);
  const sd = x.map((step, i) => {
    const values = at.get(step);
    return values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, one) => sum + (one - mean[i]) ** 2, 0) / (values.length - 1));
  });
  return { x, mean, sd };
};

const familyBoxes = (act) => {
  const boxes = h("div"), all = h("button", { type: "button" }, "All"), none = h("button", { type: "button" }, "None");
  const node = h("fieldset", { class: "families" }, h("legend", {}, "Networks", all, none), boxes);
  let labels = [];
  const set = (off) => { hidden.clear(); off.forEach((label) => hidden.add(label)); update(labels); act(); };
  all.addEventListener("click", () => set([]));
  none.addEventListener("click", () => set(labels));
  const update = (next) => {
    const focused = [...boxes.querySelectorAll("input")].indexOf(document.activeElement);
    labels = next;
    boxes.replaceChildren(...labels.map((label, index) => {
      const box = checkbox("", !hidden.has(label), (on) => { on ? hidden.delete(label) : hidden.add(label); act(); });
      const swatch = h("i", { "aria-hidden": "true" });
      swatch.style.background = colourOf(index);
      box.append(swatch, h("span", { title: label }, label));
      return box;
    }));
    if (focused >= 0) boxes.querySelectorAll("input")[focused]?.focus();
  };
  return { node, update };
};

const curveSection = (page) => {
  const view = { smoothing: 0.6, logX: false, logY: false, band: true, parts: 0 };
  const shown = [["train", "test", "averaged_test", ""], ["train", ""], ["test", "averaged_test", ""]];
  const made = new Map(), main = h("div", { class: "pair" }), others = h("div", { class: "pair" });
  const more = h("details", {}, h("summary", {}, "More that was measured"), others);
  let current = page;

  const runsOf = (family) => {
    const before = current.families.slice(0, family).reduce((sum, one) => sum + one.runs.length, 0);
    return current.families[family].runs.map((seed, index) => ({ seed, points: current.curves.points[before + index] }));
  };
  const percent = (name) => name === "error" || name.endsWith("_error");
  const curve = (points, part, name) => {
    const found = points[`${part}/${name}`];
    if (!found) return null;
    const y = percent(name) ? found[1].map((one) => one === null ? null : 100 * one) : found[1];
    return { x: current.curves.steps[found[0]], y: part === "train" && view.smoothing ? smoothed(y, view.smoothing) : y };
  };

  const traces = (name, parts) => {
    const data = [];
    current.families.forEach(({ label }, family) => {
      data.push({ // what stands for the family in the legend
        type: "scatter", mode: "lines", x: [null], y: [null], name: label, hoverinfo: "skip",
        visible: hidden.has(label) ? "legendonly" : true, line: { color: colourOf(family), dash: dashOf(family), width: 2.6 },
      });
      for (const part of parts.filter((one) => shown[view.parts].includes(one))) {
        const curves = runsOf(family).map(({ seed, points }) => ({ seed, ...curve(points, part, name) })).filter((one) => one.x);
        if (!curves.length) continue;
        const look = LOOK[part], colour = colourOf(family), words = [label, PART_NAMES[part]].filter(Boolean).join(", ");
        const off = hidden.has(label);
        const base = {
          type: "scatter", mode: curves[0].x.length > 1 ? "lines" : "markers", opacity: look.opacity ?? 1,
          line: { color: colour, width: look.width, dash: look.dash ?? dashOf(family) }, marker: { color: colour },
          visible: !off, showlegend: false,
        };
        if (view.band && curves.length > 1) {
          const { x, mean, sd } = overSeeds(curves);
          const low = mean.map((one, i) => view.logY ? Math.max(one - sd[i], one / 100) : one - sd[i]);
          const edge = { ...base, mode: "lines", line: { width: 0, color: colour }, hoverinfo: "skip" };
          data.push({ ...edge, x, y: low });
          data.push({ ...edge, x, y: mean.map((one, i) => one + sd[i]), fill: "tonexty", fillcolor: faint(colour, 0.16) });
          data.push({ ...base, x, y: mean, name: words, customdata: sd, hovertemplate: "%{y:.4~g} ± %{customdata:.2~g}" });
        } else {
          curves.forEach(({ seed, x, y }) => data.push({
            ...base, x, y, hovertemplate: "%{y:.4~g}",
            name: curves.length > 1 ? `${words}, seed ${seed}` : words,
          }));
        }
      }
    });
    return data;
  };

  const rows = (name, parts) => {
    const found = [];
    current.families.forEach(({ label }, family) => runsOf(family).forEach(({ seed, points }) => {
      for (const part of parts) {
        const held = points[`${part}/${name}`];
        held?.[1].forEach((value, i) => found.push([label, seed, PART_NAMES[part] || name, current.curves.steps[held[0]][i], value]));
      }
    }));
    return { header: ["network", "seed", "of", "step", name], rows: found };
  };

  const title = (name) => {
    const words = name.replaceAll("_", " ").replaceAll("/", ": ");
    return words[0].toUpperCase() + words.slice(1) + (percent(name) ? " (%)" : "");
  };

  const add = ({ name }) => {
    const now = () => current.curves.quantities.find((one) => one.name === name)?.parts ?? [];
    const one = chart({
      title: title(name),
      content: () => ({
        data: traces(name, now()),
        layout: {
          hovermode: "x unified", uirevision: `${view.logX}${view.logY}`,
          showlegend: current.families.length <= 8 && innerWidth > 640, legend: LEGEND,
          xaxis: axis({ title: { text: "step" }, type: view.logX ? "log" : "linear", showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: style("quiet"), spikedash: "solid" }),
          yaxis: axis({ type: view.logY ? "log" : "linear" }),
        },
      }),
      rows: () => rows(name, now()),
    });
    (["loss", "error"].includes(name) ? main : others).append(one.node);
    one.draw();
    one.plot.on("plotly_legendclick", ({ data, curveNumber }) => {
      const label = data[curveNumber].name;
      hidden.has(label) ? hidden.delete(label) : hidden.add(label);
      boxes.update(current.families.map((each) => each.label));
      redraw();
      return false;
    });
    one.plot.on("plotly_legenddoubleclick", () => false);
    made.set(name, one);
  };

  const boxes = familyBoxes(redraw);
  const controls = h("div", { class: "controls" },
    choice("Show", ["training and test", "training", "test"], (value) => { view.parts = value; redraw(); }),
    choice("Seeds", ["mean ± standard deviation", "one line each"], (value) => { view.band = value === 0; redraw(); }),
    slider("Smoothing", { max: 0.98, value: view.smoothing, step: 0.02 }, (value) => value.toFixed(2), (value) => { view.smoothing = value; redraw(); }),
    checkbox("Logarithmic values", false, (on) => { view.logY = on; redraw(); }),
    checkbox("Logarithmic steps", false, (on) => { view.logX = on; redraw(); }));
  const node = h("section", { id: "curves" }, h("h2", {}, "Curves"),
    h("p", {}, "Thin lines are training batches, bold lines the test set. Smoothing changes the training lines only."), boxes.node, controls, main, more);
  more.addEventListener("toggle", () => redraw());

  const update = (next) => {
    current = next;
    boxes.update(next.families.map((one) => one.label));
    for (const quantity of next.curves.quantities ?? []) made.has(quantity.name) ? made.get(quantity.name).draw() : add(quantity);
    more.hidden = !others.children.length;
    node.hidden = !made.size;
  };
  return { node, title: "Curves", update, theme: () => boxes.update(current.families.map((one) => one.label)) };
};
