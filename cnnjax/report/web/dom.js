// Small helpers: elements, text, downloads, colours.

const h = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
};

// Text with `code` in backticks.
const prose = (text) =>
  text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : document.createTextNode(part)));

const paragraphs = (text) =>
  text.trim().split(/\n\s*\n/).filter(Boolean).map((one) => h("p", {}, ...prose(one)));

const fileName = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "chart";

const download = (name, content, type) => {
  const link = h("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const csv = ({ header, rows }) => {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
};

const number = (value) => {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : value.toPrecision(4);
};

// Okabe and Ito's colours, which the colour-blind can tell apart; a second round is dashed. The dark page
// has the lighter form of the two that are dark.
const PALETTE = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b"],
  dark: ["#4da3e0", "#f08040", "#1fc794", "#e09bc2", "#f0b429", "#8bd0f7", "#b5b5b5"],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];
const isDark = () => document.documentElement.dataset.theme === "dark";
const colourOf = (index) => {
  const colours = PALETTE[isDark() ? "dark" : "light"];
  return colours[index % colours.length];
};
const dashOf = (index) => DASHES[Math.floor(index / PALETTE.light.length) % DASHES.length];
const faint = (colour, alpha) =>
  colour + Math.round(255 * alpha).toString(16).padStart(2, "0");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const checkbox = (label, checked, act) => {
  const box = h("input", { type: "checkbox", checked });
  box.addEventListener("change", () => act(box.checked));
  return h("label", {}, box, label);
};

const choice = (label, options, act) => {
  const select = h("select", {}, ...options.map((one, index) => h("option", { value: String(index) }, one)));
  select.addEventListener("change", () => act(Number(select.value)));
  return h("label", {}, label, select);
};

// A slider whose value is said beside it; `say` makes words of a value.
const slider = (label, { max, value, step = 1 }, say, act) => {
  const input = h("input", { type: "range", min: "0", max: String(max), step: String(step), value: String(value) });
  const output = h("output", {});
  const show = () => {
    output.textContent = say(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => { show(); act(Number(input.value)); });
  show();
  return Object.assign(h("label", {}, label, input, output), {
    extend(max) {
      const atEnd = input.value === input.max;
      input.max = String(max);
      if (atEnd) input.value = input.max;
      show();
      return Number(input.value);
    },
  });
};
