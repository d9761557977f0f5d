// Statistics of layers: a heat map of depth and step, the profile of one step, a table; cosines of gradients.

const steps = (run) => run.steps.map((step) => `step ${number(step)}`);

// A heat map in viridis; positive values that span more than a factor of ten are coloured by their logarithm.
const layerSection = (page) => {
  const view = { run: 0, statistic: 0, step: 0, log: true };
  let current = page.layers;
  const run = () => current.runs[view.run];
  const statistic = () => current.statistics[view.statistic];
  const names = (one) => one[statistic().of];
  const values = (one) => one.values[statistic().name] ?? [];
  const at = (one) => Math.min(view.step, one.steps.length - 1);

  const heat = chart({
    title: "Depth and step",
    content: () => {
      const flat = values(run()).flat().filter((one) => one !== null);
      const log = view.log && flat.length > 0 && Math.min(...flat) > 0;
      const z = names(run()).map((_, layer) => values(run()).map((line) => line[layer] === null ? null : log ? Math.log10(line[layer]) : line[layer]));
      const places = run().steps.map((_, index) => index);
      return {
        data: [{
          type: "heatmap", z, x: places, y: names(run()).map((_, index) => index + 1), colorscale: "Viridis", hoverongaps: false,
          text: z.map((line, layer) => line.map((_, step) => `${names(run())[layer]}<br>step ${number(run().steps[step])}<br><b>${number(values(run())[step][layer])}</b>`)),
          hovertemplate: "%{text}<extra></extra>",
          colorbar: { thickness: 12, outlinewidth: 0, tickprefix: log ? "10<sup>" : "", ticksuffix: log ? "</sup>" : "" },
        }],
        layout: {
          uirevision: `${view.run}`,
          xaxis: axis({ title: { text: "measured step" }, tickvals: places, ticktext: run().steps.map(number), showgrid: false }),
          yaxis: axis({ title: { text: statistic().of === "blocks" ? "block" : "layer" }, showgrid: false }),
          shapes: [{ type: "rect", x0: at(run()) - 0.5, x1: at(run()) + 0.5, y0: 0, y1: 1, yref: "paper", line: { color: isDark() ? "#ffffff" : "#000000", width: 2 } }],
        },
      };
    },
    rows: () => ({
      header: [statistic().of === "blocks" ? "block" : "layer", ...steps(run())],
      rows: names(run()).map((name, layer) => [name, ...values(run()).map((line) => line[layer])]),
    }),
  });

  const shownRuns = () => current.runs.filter((one) => values(one).length && (!hidden.has(one.label) || one === run()));
  const profile = chart({
    title: "Along the depth, at the chosen step",
    content: () => ({
      data: shownRuns().map((one) => ({
        type: "scatter", mode: "lines+markers", name: one.label, x: names(one).map((_, index) => index + 1), y: values(one)[at(one)],
        text: names(one), hovertemplate: "%{y:.4~g} (%{text})", marker: { size: 4 }, opacity: one === run() ? 1 : 0.6,
        line: { color: colourOf(familyIndex(one.label)), dash: dashOf(familyIndex(one.label)), width: one === run() ? 3 : 1.5 },
      })),
      layout: {
        hovermode: "x unified", uirevision: `${view.statistic}${view.log}`, showlegend: shownRuns().length <= 8 && innerWidth > 640, legend: LEGEND,
        xaxis: axis({ title: { text: statistic().of === "blocks" ? "block" : "layer" } }), yaxis: axis({ type: view.log ? "log" : "linear" }),
      },
    }),
    rows: () => ({
      header: ["network", "layer", "step", statistic().name],
      rows: shownRuns().flatMap((one) => names(one).map((name, layer) => [one.label, name, one.steps[at(one)], values(one)[at(one)][layer]])),
    }),
  });
  let families = page.families;
  const familyIndex = (label) => Math.max(0, families.findIndex((one) => one.label === label));

  const table = sortable("Statistics of the layers at the chosen step");
  const tabulate = () => {
    const own = current.statistics.filter((one) => one.of === "layers" && run().values[one.name]);
    table.update({
      header: ["layer", "depth", ...own.map((one) => one.name.replaceAll("_", " "))],
      rows: run().layers.map((name, layer) => [name, layer + 1, ...own.map((one) => run().values[one.name][at(run())]?.[layer] ?? null)]),
    });
  };
  const all = () => { heat.draw(); profile.draw(); tabulate(); };
  const runChoice = h("span"), statisticChoice = h("span");
  const picks = () => {
    runChoice.replaceChildren(choice("Network", current.runs.map((one) => one.label), (value) => { view.run = value; view.step = range.extend(run().steps.length - 1); all(); }));
    statisticChoice.replaceChildren(choice("Statistic", current.statistics.map((one) => one.label), (value) => { view.statistic = value; all(); }));
    runChoice.querySelector("select").value = String(view.run);
    statisticChoice.querySelector("select").value = String(view.statistic);
  };
  const range = slider("Step", { max: page.layers.runs[0].steps.length - 1, value: 0 }, (value) => number(run().steps[value] ?? 0), (value) => { view.step = value; all(); });
  const note = h("p", { class: "note" });
  const node = h("section", { id: "layers" }, h("h2", {}, "Layers"),
    h("p", {}, "What the probe measured of every layer within training steps, counted from the input; of each network the first seed."),
    h("div", { class: "controls" }, runChoice, statisticChoice, range, checkbox("Logarithmic values", true, (on) => { view.log = on; all(); })),
    h("div", { class: "pair" }, heat.node, profile.node),
    h("details", { open: true }, h("summary", {}, "All statistics of the chosen step"), table.node), note);
  let known = "";
  const update = (next) => {
    current = next.layers;
    families = next.families;
    const now = JSON.stringify([current.runs.map((one) => one.label), current.statistics]);
    if (now !== known) picks();
    known = now;
    view.step = range.extend(run().steps.length - 1);
    note.textContent = current.note;
    all();
  };
  return { node, title: "Layers", update };
};

const sampleSection = (page) => {
  const view = { run: 0, layer: 0, step: 0 };
  let current = page.samples;
  const run = () => current.runs[view.run];
  const matrix = () => {
    const side = run().side, flat = run().cosines[view.step][view.layer];
    return Array.from({ length: side }, (_, row) => flat.slice(row * side, (row + 1) * side).map((one) => one / 100));
  };
  const square = chart({
    title: "Cosines between the gradients of samples",
    content: () => ({
      data: [{ type: "heatmap", z: matrix(), zmin: -1, zmax: 1, colorscale: [[0, "#b35806"], [0.5, "#f7f7f7"], [1, "#2166ac"]], hovertemplate: "samples %{y} and %{x}: <b>%{z:.2f}</b><extra></extra>", colorbar: { thickness: 12, outlinewidth: 0 } }],
      layout: { xaxis: axis({ title: { text: "sample" }, showgrid: false, constrain: "domain" }), yaxis: axis({ title: { text: "sample" }, showgrid: false, autorange: "reversed", scaleanchor: "x", constrain: "domain" }), uirevision: "1" },
    }),
    rows: () => ({ header: ["sample", ...matrix().map((_, index) => String(index))], rows: matrix().map((line, index) => [index, ...line]) }),
  });
  const means = chart({
    title: "Mean cosine over pairs of samples",
    content: () => ({
      data: [{ type: "scatter", mode: "lines+markers", x: run().layers.map((_, index) => index), y: run().mean[view.step], text: run().layers, hovertemplate: "%{text}: %{y:.3f}<extra></extra>", line: { color: style("accent"), width: 2 }, marker: { size: run().layers.map((_, index) => index === view.layer ? 12 : 6) } }],
      layout: { xaxis: axis({ tickvals: run().layers.map((_, index) => index), ticktext: run().layers }), yaxis: axis({ zeroline: true }), uirevision: `${view.run}` },
    }),
    rows: () => ({ header: ["layer", ...steps(run())], rows: run().layers.map((name, layer) => [name, ...run().mean.map((line) => line[layer])]) }),
  });
  const all = () => { square.draw(); means.draw(); };
  const runChoice = h("span"), layerChoice = h("span");
  const picks = () => {
    runChoice.replaceChildren(choice("Network", current.runs.map((one) => one.label), (value) => { view.run = value; view.layer = 0; view.step = range.extend(run().steps.length - 1); picks(); all(); }));
    layerChoice.replaceChildren(choice("Gradient by", run().layers, (value) => { view.layer = value; all(); }));
    runChoice.querySelector("select").value = String(view.run);
    layerChoice.querySelector("select").value = String(view.layer);
  };
  const range = slider("Step", { max: page.samples.runs[0].steps.length - 1, value: 0 }, (value) => number(run().steps[value] ?? 0), (value) => { view.step = value; all(); });
  const note = h("p", { class: "note" });
  const node = h("section", { id: "samples" }, h("h2", {}, "Gradients of single samples"),
    h("div", { class: "controls" }, runChoice, layerChoice, range), h("div", { class: "pair" }, square.node, means.node), note);
  let known = "";
  const update = (next) => {
    current = next.samples;
    const now = JSON.stringify(current.runs.map((one) => [one.label, one.layers]));
    if (now !== known) picks();
    known = now;
    view.step = range.extend(run().steps.length - 1);
    note.textContent = current.note;
    all();
  };
  return { node, title: "Samples", update };
};
