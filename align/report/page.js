"use strict";
// Reads values off a chart under the pointer. The page says everything without it.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const chart = JSON.parse(svg.dataset.chart);
  const [low, high, left, right] = chart.x;
  const output = svg.closest("figure").querySelector("output");
  const rest = [...output.childNodes];
  const cursor = document.createElementNS(svg.namespaceURI, "path");
  cursor.setAttribute("class", "cursor");
  const nearest = (points, x) => points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
  const words = (y) => chart.share ? (100 * y).toFixed(1) + " %" : String(y);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const pixel = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const x = low + (Math.min(right, Math.max(left, pixel)) - left) / (right - left) * (high - low);
    const found = chart.lines.map((points) => nearest(points, x));
    const step = found.map((point) => point[0]).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
    const at = left + (step - low) / (high - low) * (right - left);
    cursor.setAttribute("d", `M${at} 10V188`);
    svg.append(cursor);
    output.textContent = `step ${step} · ` + found.map((point) => words(point[1])).join(" · ");
  });
  svg.addEventListener("pointerleave", () => { cursor.remove(); output.replaceChildren(...rest); });
}
