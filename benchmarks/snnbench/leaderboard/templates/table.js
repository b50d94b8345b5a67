// Tables: of budgets, of all rows with sorting and filters, of published numbers.
"use strict";
const Tables = (() => {
  const make = (name, className, text, parent) => {
    const found = document.createElement(name);
    if (className) found.className = className;
    if (text !== undefined && text !== null) found.textContent = text;
    if (parent) parent.append(found);
    return found;
  };
  const number = (value, digits) => {
    if (value === null || value === undefined) return "–";
    const text = value.toFixed(digits ?? (Math.abs(value) >= 1000 ? 0 : 2));
    return text.replace("-", "−");
  };
  const ratio = (value) => (value === undefined || value === null ? "–" : value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toFixed(3).replace(/0$/, ""));
  const below = (board, network, row) => (board.higher ? 1 : -1) * (network.anns[0][0] - row.v);

  function method(entry, parent) {
    const button = make("button", "open", null, parent);
    button.type = "button";
    button.dataset.entry = entry.id;
    make("span", "dot", null, button).style.background = `var(--c${entry.colour})`;
    button.append(entry.label);
    return button;
  }

  function twin(row, parent) {
    if (!row.twin) { parent.textContent = "–"; return; }
    const [levels, value, int8, equal, agreement] = row.twin;
    make("span", null, number(value), parent);
    const small = make("small", null, null, parent);
    if (equal) make("span", "lossless", "lossless", small);
    small.append(`${equal ? " " : ""}${levels} levels; int8 ${number(int8)}`);
    if (!equal && agreement !== null) small.append(`; ${number(100 * agreement, 1)} % same answers`);
  }

  // what T stands for: the network's steps, those of a pipeline, and what a step may say
  function units(row) {
    const told = [];
    if (row.p) told.push(`network ${row.p} ${row.p === 1 ? "step" : "steps"}`);
    if (row.n) told.push(`pipeline ${row.n[0]}, then every ${row.n[1]}`);
    if (row.b) told.push(`${row.b} ${row.b === 1 ? "bit" : "bits"} a step`);
    return told.join("; ");
  }

  const spread = (row) => (row.s ? `± ${number(row.s)}` : "") + (row.d ? `${row.s ? "; " : ""}std ${number(row.d)}` : "");

  // budgets that one row answers stand in one line
  function merged(told) {
    const found = [];
    for (const [threshold, place, others] of told) {
      const last = found.at(-1);
      if (last && last.place === place) Object.assign(last, { others, thresholds: [...last.thresholds, threshold] });
      else found.push({ thresholds: [threshold], place, others });
    }
    return found;
  }

  function budget(body, board, network, cost, told, byEnergy, withTwin) {
    const row = network.rows[told.place], tr = make("tr", null, null, body);
    make("th", null, `${byEnergy ? "" : "T "}≤ ${told.thresholds.join(", ")}`, tr).scope = "row";
    const cell = make("td", null, null, tr);
    method(network.entries[row.e], cell);
    const energy = row.q && row.q[cost] !== undefined ? `, energy ${ratio(row.q[cost])}` : "";
    make("small", null, `T = ${row.t}${energy}`, cell);
    const steps = units(row);
    if (steps) make("small", "units", steps, cell);
    if (told.others.length) {
      const names = told.others.slice(0, 2).map((e) => network.entries[e].label).join(", ");
      make("small", "or", `or ${names}${told.others.length > 2 ? ` and ${told.others.length - 2} more` : ""}`, cell);
    }
    const scored = make("td", "n", null, tr);
    make("span", "value", number(row.v), scored);
    if (spread(row)) make("small", null, spread(row), scored);
    if (withTwin) twin(row, make("td", "n", null, tr));
  }

  function answers(board, network, cost) {
    const table = make("table", "answers"), head = make("tr", null, null, make("thead", null, null, table));
    const withTwin = network.rows.some((row) => row.twin);
    const titles = [["Budget", ""], ["Best method", ""], [board.metric, "n"], ...(withTwin ? [["Quantised ANN", "n"]] : [])];
    for (const [text, className] of titles) make("th", className, text, head).scope = "col";
    const body = make("tbody", null, null, table), ann = make("tr", "ann", null, body);
    make("th", null, "none", ann).scope = "row";
    make("td", null, "the ANN, float32", ann);
    const value = make("td", "n", null, ann);
    make("span", "value", number(network.anns[0][0]), value);
    if (network.anns[0][1]) make("small", null, `± ${number(network.anns[0][1])}`, value);
    if (withTwin) make("td", "n", "", ann);
    const group = (text) => {
      const th = make("th", null, text, make("tr", "group", null, body));
      Object.assign(th, { colSpan: titles.length, scope: "rowgroup" });
    };
    if (network.steps.length) group("Time steps");
    for (const told of merged(network.steps)) budget(body, board, network, cost, told, false, withTwin);
    const energy = network.energy[cost] || [];
    if (energy.length) group(`Energy ÷ ANN, ${cost}`);
    for (const told of merged(energy)) budget(body, board, network, cost, told, true, withTwin);
    return table;
  }

  const COLUMNS = [
    ["Method", (x) => x.entry.label], ["", (x) => x.row.v, "value"], ["±", (x) => x.row.s], ["Std of seeds", (x) => x.row.d], ["T", (x) => x.row.l, "t"],
    ["Network steps", (x) => x.row.p, "plain"], ["Pipeline: first", (x) => (x.row.n ? x.row.n[0] : undefined), "plain"],
    ["then every", (x) => (x.row.n ? x.row.n[1] : undefined), "plain"], ["Bits a step", (x) => x.row.b], ["Energy", (x) => (x.row.q ? x.row.q[x.cost] : undefined), "ratio"],
    ["Cost", (x) => (x.row.j ? x.row.j[x.cost] : undefined), "cost"], ["Rank", (x) => parseInt(x.row.r, 10), "rank"],
    ["Below ANN", (x) => x.below], ["Quantised ANN", (x) => (x.row.twin ? x.row.twin[1] : undefined), "twin"],
    ["Spikes / neuron", (x) => x.row.k], ["SOPs", (x) => size(x.row.o), "sops"], ["Wall time ÷ ANN", (x) => x.row.w],
    ["Conversion (s)", (x) => x.row.c], ["Epochs", (x) => x.entry.epochs ?? undefined, "plain"],
  ];
  const size = (text) => (text ? parseFloat(text) * { k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[text.slice(-1)] || parseFloat(text) : undefined);

  function shown(x, column) {
    const [, take, kind] = column, value = take(x);
    if (kind === "t") return x.row.t;
    if (kind === "rank") return x.row.r;
    if (kind === "sops") return x.row.o ?? "–";
    if (kind === "ratio") return ratio(value);
    if (kind === "plain") return value ?? "–";
    if (kind === "cost") return value === undefined ? "–" : value.toExponential(2).replace("e", " e").replace("-", "−");
    if (kind === "twin") return x.row.twin ? `${number(value)} (${x.row.twin[0]} levels${x.row.twin[3] ? ", lossless" : ""})` : "–";
    return value === undefined || value === null ? "–" : number(value, x.places && kind !== "value" ? x.places : undefined);
  }

  class Rows {
    constructor(parent, board, filtered) {
      Object.assign(this, { board, filtered, sorted: 1, down: board.higher });
      this.form = make("form", "filters", null, parent);
      this.form.setAttribute("role", "search");
      for (const [name, text, type] of [["search", "Search", "search"], ["latency", "Steps ≤", "number"], ["energy", "Energy ≤", "number"]]) {
        const input = make("input", null, null, make("label", null, text, this.form));
        Object.assign(input, { name, type, autocomplete: "off" });
        if (type === "number") Object.assign(input, { min: 0, step: "any" });
      }
      this.form.addEventListener("input", () => { this.draw(); this.filtered(); });
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.count = make("span", null, "", this.form);
      this.count.setAttribute("aria-live", "polite");
      const scroll = make("div", "scroll", null, parent);
      Object.assign(scroll, { tabIndex: 0 });
      scroll.setAttribute("role", "region");
      scroll.setAttribute("aria-label", `All rows of ${board.dataset}`);
      this.table = make("table", "rows", null, scroll);
      const head = make("tr", null, null, make("thead", null, null, this.table));
      this.heads = COLUMNS.map(([text], place) => {
        const th = make("th", place ? "n" : "", null, head);
        th.scope = "col";
        const button = make("button", null, text || board.metric, th);
        button.type = "button";
        button.addEventListener("click", () => {
          this.down = this.sorted === place ? !this.down : place > 0;
          this.sorted = place;
          this.draw();
        });
        return th;
      });
      this.body = make("tbody", null, null, this.table);
    }

    get latency() {
      const typed = this.form.elements.latency.value;
      return typed === "" ? Infinity : Number(typed);
    }

    show(network, cost) { Object.assign(this, { network, cost }); this.draw(); }

    draw() {
      if (!this.network) return;
      const { board, network, cost } = this, typed = (name) => this.form.elements[name].value;
      const words = typed("search").toLowerCase(), latency = this.latency;
      const energy = typed("energy") === "" ? null : Number(typed("energy"));
      const all = network.rows.map((row) => ({ row, cost, entry: network.entries[row.e], below: below(board, network, row) }));
      const kept = all.filter(({ row, entry }) => entry.label.toLowerCase().includes(words) && row.l <= latency
        && (energy === null || (row.q && row.q[cost] !== undefined && row.q[cost] <= energy)));
      const take = COLUMNS[this.sorted][1], sign = this.down ? -1 : 1;
      kept.sort((a, b) => {
        const [p, q] = [take(a), take(b)];
        if (p === undefined || p === null) return q === undefined || q === null ? 0 : 1;
        if (q === undefined || q === null) return -1;
        return sign * (typeof p === "string" ? p.localeCompare(q) : p - q);
      });
      this.heads.forEach((th, place) => {
        if (place === this.sorted) th.setAttribute("aria-sort", this.down ? "descending" : "ascending");
        else th.removeAttribute("aria-sort");
      });
      const empty = COLUMNS.map(([, value]) => all.every((x) => value(x) === undefined || value(x) === null));
      this.heads.forEach((th, place) => { th.hidden = empty[place]; });
      this.body.replaceChildren(...kept.map((x) => {
        const tr = make("tr");
        COLUMNS.forEach((column, place) => {
          if (empty[place]) return;
          if (!place) { const th = make("th", null, null, tr); th.scope = "row"; method(x.entry, th); } else make("td", "n", shown(x, column), tr);
        });
        return tr;
      }));
      this.count.textContent = kept.length < all.length ? `${kept.length} of ${all.length} rows` : "";
      for (const tr of this.beside ? this.beside.querySelectorAll("tbody tr") : []) {
        tr.hidden = latency < Infinity && !(tr.dataset.latency && Number(tr.dataset.latency) <= latency);
      }
    }
  }

  function published(numbers, withData) {
    const scroll = make("div", "scroll"), table = make("table", "published", null, scroll);
    const head = make("tr", null, null, make("thead", null, null, table));
    const titles = ["Method", ...(withData ? ["Data set"] : []), "Network", "τ + T", "Metric", "Value", "ANN", "Source", "Note"];
    for (const title of titles) make("th", ["τ + T", "Value", "ANN"].includes(title) ? "n" : "", title, head).scope = "col";
    const body = make("tbody", null, null, table);
    for (const p of numbers) {
      const tr = make("tr", null, null, body);
      if (p.l) tr.dataset.latency = p.l;
      make("th", null, p.method, tr).scope = "row";
      if (withData) make("td", null, p.data, tr);
      make("td", null, p.network, tr);
      make("td", "n", p.t ?? "–", tr);
      make("td", null, p.metric, tr);
      make("td", "n", number(p.v), tr);
      make("td", "n", number(p.ann), tr);
      const source = make("td", null, null, tr);
      if (p.url) make("a", null, p.paper, source).href = p.url; else source.append(p.paper);
      source.append(`, ${p.source}`);
      make("td", null, p.note, tr);
    }
    return scroll;
  }

  function overview(boards) {
    const table = make("table"), head = make("tr", null, null, make("thead", null, null, table));
    const steps = [2, 4, 8, 16, 32];
    for (const [text, className] of [["Data set", ""], ["ANN", "n"], ...steps.map((t) => [`T ≤ ${t}`, t === 4 ? "" : "wide"])]) {
      make("th", className, text, head).scope = "col";
    }
    const body = make("tbody", null, null, table);
    for (const board of boards) {
      const network = board.networks[0], tr = make("tr", null, null, body), th = make("th", null, null, tr);
      th.scope = "row";
      make("a", null, board.dataset, th).href = `#${board.name}`;
      make("small", null, network.name, th);
      const ann = make("td", "n", number(network.anns[0][0]), tr);
      make("small", null, board.metric.replace(/ \(%\)/, ""), ann);
      for (const t of steps) {
        const told = network.steps.find(([threshold]) => threshold === t), td = make("td", t === 4 ? "" : "wide", null, tr);
        if (!told) { td.textContent = "–"; continue; }
        const row = network.rows[told[1]], entry = network.entries[row.e];
        make("b", null, number(row.v), td);
        const small = make("small", null, null, td);
        make("span", "dot", null, small).style.background = `var(--c${entry.colour})`;
        small.append(entry.label);
      }
    }
    return table;
  }
  return { make, number, ratio, units, answers, published, overview, Rows };
})();
