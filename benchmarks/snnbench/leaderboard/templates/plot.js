// One plot of a network: a metric against steps or energy, at most eight lines, each with its name at its end.
"use strict";
const Plot = (() => {
  const MOST = 8, DASHES = ["", "7 4", "2 3", "9 3 2 3"];
  const make = (name, attributes, parent) => {
    const found = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    if (parent) parent.append(found);
    return found;
  };

  // names one below the other: each at its line's height, or moved away from the others
  function spread(labels, top, bottom, gap) {
    labels.sort((a, b) => a.y - b.y);
    let last = top - gap;
    for (const label of labels) last = label.place = Math.max(label.y, last + gap);
    let next = bottom + gap;
    for (const label of [...labels].reverse()) next = label.place = Math.min(label.place, next - gap);
  }

  const nice = (spreadOf) => {
    const rough = spreadOf / 5, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= rough);
  };

  function range(lines, anns, board) {
    const all = lines.flatMap((line) => line.points.map((p) => p.y));
    const best = lines.map((line) => (board.higher ? Math.max(...line.points.map((p) => p.y)) : Math.min(...line.points.map((p) => p.y))));
    let low = Math.min(...all, ...anns);
    const high = Math.max(...all, ...anns);
    const reference = Math.max(...anns);
    // the interesting part: down to somewhat below the worst method's best, and what is lower is counted below
    if (board.higher && anns.length) low = Math.max(low, Math.min(...best) - 0.6 * Math.max(reference - Math.min(...best), 0.04 * Math.abs(reference)));
    const step = nice(high - low || Math.abs(high) || 1);
    const most = board.metric.includes("%") ? 100 : Infinity;
    return { low: Math.floor(low / step) * step, high: Math.min(Math.ceil((high + 0.15 * step) / step) * step, most), step };
  }

  function draw(figure, board, network, cost, kind, tools, most = Infinity) {
    const svg = figure.querySelector("svg"), below = figure.querySelector(".below");
    const width = Math.max(svg.parentElement.clientWidth, 280), narrow = width < 460, height = narrow ? 300 : 400;
    const names = narrow ? 96 : 150;
    const area = { left: 46, right: width - names, top: 14, bottom: height - 40 };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const at = (row) => (kind === "steps" ? row.l : kind === "network steps" ? row.p : row.q ? row.q[cost] : undefined);
    const seen = new Map();
    let lines = network.entries.map((entry, number) => {
      const points = network.rows.filter((row) => row.e === number && row.l <= most && at(row) !== undefined)
        .map((row) => ({ x: at(row), y: row.v, row })).sort((a, b) => a.x - b.x);
      return { entry, points };
    }).filter((line) => line.points.length);
    const more = Math.max(lines.length - MOST, 0);
    lines = lines.slice(0, MOST);
    for (const line of lines) {
      const used = seen.get(line.entry.colour) || 0;
      line.dash = DASHES[used % DASHES.length];
      seen.set(line.entry.colour, used + 1);
    }
    const sentences = [];
    if (!lines.length) {
      below.textContent = most < Infinity ? `No row takes at most ${most} steps.` : kind === "energy" ? "No file of this network holds this cost." : "No file of this network holds the network’s steps.";
      svg.setAttribute("viewBox", `0 0 ${width} 40`);
      return;
    }
    const ghosts = kind === "steps" ? board.published.filter((p) => p.same && p.l && p.l <= most && p.v !== null).map((p) => ({ x: p.l, y: p.v, p })) : [];
    const anns = network.anns.map(([value]) => value);
    const { low, high, step } = range(lines, anns, board);
    const xs = lines.flatMap((line) => line.points.map((p) => p.x));
    const from = Math.log2(Math.min(...xs)), to = Math.log2(Math.max(...xs)), room = Math.max((to - from) * 0.04, 0.15);
    const X = (x) => area.left + (Math.log2(x) - from + room) / (to - from + 2 * room) * (area.right - area.left);
    const Y = (y) => area.bottom - (y - low) / (high - low) * (area.bottom - area.top);
    const clip = `clip-${tools.unique()}`;
    make("rect", { x: area.left - 6, y: area.top - 8, width: area.right - area.left + 12, height: area.bottom - area.top + 8 },
      make("clipPath", { id: clip }, make("defs", {}, svg)));
    for (let value = low; value <= high + step / 9; value += step) {
      make("line", { class: "grid", x1: area.left, x2: area.right, y1: Y(value), y2: Y(value) }, svg);
      make("text", { x: area.left - 8, y: Y(value) + 4, "text-anchor": "end" }, svg).textContent = Number(value.toPrecision(6)).toString();
    }
    const ticks = kind !== "energy" ? [...Array(12)].map((_, i) => 2 ** i) : [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20];
    for (const tick of ticks) {
      if (X(tick) < area.left - 1 || X(tick) > area.right + 1) continue;
      make("line", { class: "grid", x1: X(tick), x2: X(tick), y1: area.bottom, y2: area.bottom + 4 }, svg);
      make("text", { x: X(tick), y: area.bottom + 18, "text-anchor": "middle" }, svg).textContent = tick;
    }
    make("text", { x: (area.left + area.right) / 2, y: height - 3, "text-anchor": "middle" }, svg).textContent
      = { steps: "time steps of a layer", "network steps": "time steps of the network", energy: "energy ÷ ANN" }[kind];
    const labels = [], within = []; // names beside the plot, and of lines that end early: at their end
    for (const [number, value] of anns.slice(0, 1).entries()) {
      make("line", { class: "reference", x1: area.left, x2: area.right, y1: Y(value), y2: Y(value) }, svg);
      labels.push({ y: Y(value), from: Y(value), text: `ANN ${tools.number(value)}`, number });
    }
    const inside = make("g", { "clip-path": `url(#${clip})` }, svg);
    let hidden = 0;
    const points = [];
    for (const line of lines) {
      const colour = `var(--c${line.entry.colour})`;
      const group = make("g", { "data-line": line.entry.id }, inside);
      const path = line.points.map((p, i) => `${i ? "L" : "M"}${X(p.x).toFixed(1)} ${Y(p.y).toFixed(1)}`).join("");
      make("path", { class: "series", d: path, stroke: colour, "stroke-dasharray": line.dash }, group);
      for (const p of line.points) {
        if (p.y < low) { hidden += 1; continue; }
        if (p.row.s) make("line", { x1: X(p.x), x2: X(p.x), y1: Y(p.y - 1.96 * p.row.s), y2: Y(p.y + 1.96 * p.row.s), stroke: colour, opacity: .35 }, group);
        make("circle", { cx: X(p.x), cy: Y(p.y), r: 3.6, fill: colour }, group);
        points.push({ x: X(p.x), y: Y(p.y), text: tools.words(board, network, p.row), open: line.entry.id, line: line.entry.id });
      }
      const end = [...line.points].reverse().find((p) => p.y >= low) || line.points.at(-1);
      const label = { y: Y(end.y), x: X(end.x), from: Y(end.y), text: line.entry.label, colour, id: line.entry.id };
      if (X(end.x) < area.right - 0.3 * (area.right - area.left)) within.push(label); else labels.push(label);
    }
    let outside = 0;
    for (const { x, y, p } of ghosts) {
      if (X(x) < area.left || X(x) > area.right || y < low) { outside += 1; continue; }
      const cx = X(x), cy = Math.max(Y(y), area.top), above = y > high;
      make("path", { class: "ghost", d: above ? `M${cx - 5} ${cy + 3}L${cx} ${cy - 5}L${cx + 5} ${cy + 3}Z`
        : `M${cx} ${cy - 5}L${cx + 5} ${cy}L${cx} ${cy + 5}L${cx - 5} ${cy}Z` }, svg);
      points.push({ x: cx, y: cy, text: `${p.method}, ${p.network}\n${tools.number(y)} at ${p.t} steps\n${p.paper}: published, not measured here` });
    }
    spread(labels, area.top, area.bottom, narrow ? 14 : 17);
    for (const label of labels) {
      const x = area.right + 14;
      if (label.id && Math.abs(label.place - label.from) + area.right - label.x > 22) {
        make("path", { d: `M${label.x + 5} ${label.from}L${area.right + 4} ${label.place}L${x - 3} ${label.place}`, fill: "none", stroke: label.colour, opacity: .35 }, svg);
      }
      name(svg, label, x, narrow ? 12 : 21, tools);
    }
    for (const label of within) label.y += within.filter((other) => other.y < label.y).length ? 14 : -13;
    spread(within, area.top, area.bottom, narrow ? 14 : 16);
    for (const label of within) { // never into the names beside the plot: about 7 pixels a letter
      name(svg, label, label.x + 6, Math.min(narrow ? 22 : 34, Math.floor((area.right - label.x - 6) / 7)), tools);
    }
    const ring = make("circle", { r: 7, fill: "none", stroke: "var(--ink)", visibility: "hidden" }, svg);
    watch(svg, points, ring, tools);
    svg.setAttribute("aria-label", `${board.dataset}, ${network.name}: ${board.metric} against ${kind === "energy" ? "energy" : "time steps"}, ${lines.length} methods. Arrow keys walk through the points, Enter opens one.`);
    if (hidden) sentences.push(`${hidden === 1 ? "1 point lies" : `${hidden} points lie`} below the axis.`);
    if (more) sentences.push(`${more} more ${more === 1 ? "method" : "methods"} in the rows below.`);
    if (ghosts.length > outside) sentences.push("◇ △ published elsewhere, not measured here (△ above the axis).");
    if (outside) sentences.push(`${outside === 1 ? "1 published number lies" : `${outside} published numbers lie`} outside.`);
    below.textContent = sentences.join(" ");
  }

  function name(svg, label, x, longest, tools) {
    const text = make("text", { x, y: label.place + 4, class: label.id ? "name" : "" }, svg);
    text.textContent = label.text.length > longest ? `${label.text.slice(0, longest - 1)}…` : label.text;
    if (!label.id) return;
    text.style.fill = label.colour;
    make("title", {}, text).textContent = label.text;
    text.addEventListener("click", () => tools.open(label.id));
    text.addEventListener("pointerenter", () => fade(svg, label.id));
    text.addEventListener("pointerleave", () => fade(svg, null));
  }

  function fade(svg, id) {
    for (const group of svg.querySelectorAll("[data-line]")) group.classList.toggle("faded", id !== null && group.dataset.line !== id);
  }

  function watch(svg, points, ring, tools) {
    const order = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
    let now = -1;
    const show = (point) => {
      ring.setAttribute("visibility", point ? "visible" : "hidden");
      fade(svg, point && point.line ? point.line : null);
      if (!point) return tools.tip(null);
      ring.setAttribute("cx", point.x);
      ring.setAttribute("cy", point.y);
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      return tools.tip(point.text, box.left + point.x * scale, box.top + point.y * scale);
    };
    const near = (event) => {
      const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      const found = order.map((p) => [Math.hypot(p.x - x, p.y - y), p]).sort((a, b) => a[0] - b[0])[0];
      return found && found[0] < 18 ? found[1] : null;
    };
    svg.onpointermove = (event) => { const point = near(event); svg.style.cursor = point && point.open ? "pointer" : ""; show(point); };
    svg.onpointerleave = () => show(null);
    svg.onclick = (event) => { const point = near(event); if (point && point.open) tools.open(point.open); };
    svg.onblur = () => { now = -1; show(null); };
    svg.onkeydown = (event) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (move && order.length) {
        event.preventDefault();
        now = (now < 0 ? (move > 0 ? 0 : order.length - 1) : now + move + order.length) % order.length;
        show(order[now]);
      } else if (event.key === "Enter" && now >= 0 && order[now].open) tools.open(order[now].open);
      else if (event.key === "Escape") { now = -1; show(null); }
    };
  }
  return { draw };
})();
