"use strict";
// Tables: a click on the head of a column sorts by it, another one turns the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = [...table.tBodies[0].rows].map((row) => [row, keyOf(row.cells[column])]);
    keyed.sort((one, other) => compare(one[1], other[1], sign));
    table.tBodies[0].append(...keyed.map((pair) => pair[0]));
  }));
}
function keyOf(cell) {
  const text = (cell.dataset.key ?? cell.textContent).trim();
  return text === "" ? null : text === String(Number(text)) || /^-?[\d.]+(e[-+]?\d+)?$/.test(text) ? Number(text) : text;
}
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null); // what is empty stands last
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}
// The filter of the table of classes.
for (const field of document.querySelectorAll("input[data-filters]")) {
  const rows = document.getElementById(field.dataset.filters).tBodies[0].rows;
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
// Confusion matrices: larger and smaller, and what a cell is.
for (const box of document.querySelectorAll(".confusion")) {
  const picture = box.querySelector(".matrix");
  const readout = box.querySelector(".readout");
  const data = JSON.parse(box.querySelector("script").textContent);
  const cells = new Map(data.cells.map(([row, column, count]) => [row * data.names.length + column, count]));
  const start = picture.style.width;
  box.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
    const factor = Number(button.dataset.zoom);
    const width = picture.getBoundingClientRect().width * factor;
    picture.style.maxWidth = factor ? "none" : "";
    picture.style.width = factor ? Math.min(Math.max(width, 200), 12000) + "px" : start;
  }));
  const tell = (event) => {
    const area = picture.getBoundingClientRect();
    const view = picture.viewBox.baseVal;
    const column = Math.floor(view.x + (event.clientX - area.left) / area.width * view.width);
    const row = Math.floor(view.y + (event.clientY - area.top) / area.height * view.height);
    if (row < 0 || column < 0 || row >= data.names.length || column >= data.names.length) return;
    const count = cells.get(row * data.names.length + column) ?? 0;
    const verb = row === column ? "recognized" : "taken for " + data.names[column];
    readout.textContent = data.names[row] + ": " + verb + " in " + count + " of " + data.counts[row];
  };
  picture.addEventListener("pointermove", tell);
  picture.addEventListener("click", tell);
}
// On paper everything is unfolded.
const folded = [];
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open]):not(.long)").forEach((one) => {
  one.open = true;
  folded.push(one);
}));
addEventListener("afterprint", () => folded.splice(0).forEach((one) => { one.open = false; }));
