// Tables that sort by a click, or a key, on a column's head.

const ROWS = 1000;

// What a cell sorts by: its first number, or its text.
const sortKey = (cell) => {
  const text = String(cell ?? "").trim();
  const found = /^[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?/i.exec(text.replace("−", "-"));
  if (["", "-", "–"].includes(text)) return null;
  return found ? Number(found[0].replaceAll(",", "")) : text.toLowerCase();
};

const compared = (one, other) => {
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one === "number" ? -1 : 1;
};

const isNumeric = (rows, column) =>
  rows.every((row) => { const key = sortKey(row[column]); return key === null || typeof key === "number"; });

// `update({header, rows})` fills it anew and keeps the order that was chosen. The first column names the row.
const sortable = (label) => {
  const head = h("tr"), body = h("tbody");
  const node = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, head), body));
  let content = { header: [], rows: [] }, column = null, sign = 1;

  const fill = () => {
    const text = content.header.map((_, index) => !isNumeric(content.rows, index));
    const rows = [...content.rows];
    if (column !== null) {
      const keyed = rows.map((row) => [sortKey(row[column]), row]);
      keyed.sort(([one], [other]) => one === null ? 1 : other === null ? -1 : sign * compared(one, other));
      rows.splice(0, rows.length, ...keyed.map(([, row]) => row));
    }
    [...head.children].forEach((cell, index) => {
      cell.className = text[index] ? "text" : "";
      if (index === column) cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    body.replaceChildren(...rows.slice(0, ROWS).map((row) => h("tr", {}, ...row.map((value, index) => {
      const said = typeof value === "number" ? number(value) : value ?? "–";
      const attributes = { class: text[index] ? "text" : "", "data-label": content.header[index] };
      return index ? h("td", attributes, said) : h("th", { ...attributes, scope: "row" }, said);
    }))));
  };

  const sortBy = (index) => {
    sign = column === index ? -sign : 1;
    column = index;
    fill();
  };

  const update = (next) => {
    const same = next.header.join("\t") === content.header.join("\t");
    content = next;
    if (!same) {
      column = null;
      head.replaceChildren(...next.header.map((name, index) =>
        h("th", { scope: "col" }, h("button", { type: "button", onclick: () => sortBy(index) }, name))));
    }
    fill();
  };
  return { node, update };
};
