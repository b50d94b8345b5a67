// The page: boards with their chooser, the cost model, the theme, details of an entry.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { make, number, ratio } = Tables, root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)"), boards = [];
  const remembered = { get() { try { return localStorage.getItem("theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("theme", value); } catch { /* a file opened from disk may not store */ } } };
  let theme = remembered.get() || "auto";
  function paint() {
    root.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    const button = document.getElementById("theme");
    button.querySelector("span").textContent = theme;
    button.setAttribute("aria-label", `Colour scheme: ${theme}`);
  }
  document.getElementById("theme").addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme];
    remembered.set(theme);
    paint();
  });
  dark.addEventListener("change", paint);
  paint();

  // --- details of an entry ---
  const dialog = document.getElementById("details"), content = dialog.querySelector(".content");
  const entries = new Map(data.boards.flatMap((board) => board.networks.flatMap((network) => network.entries.map((entry, at) => [entry.id, { board, network, entry, at }]))));
  function open(id) {
    const found = entries.get(id);
    if (!found) return;
    const { board, network, entry, at } = found;
    content.replaceChildren();
    const title = make("h2", null, entry.label, content);
    Object.assign(title, { id: "details-title", tabIndex: -1 });
    make("p", "facts", `${network.name} on ${board.dataset}, ${board.split}, ${network.samples.toLocaleString("en")} inputs; ANN ${number(network.anns[0][0])}`, content);
    make("h3", null, "Measure it again", content);
    for (const [place, latencies] of entry.commands) {
      const line = make("div", "command", null, content);
      if (entry.commands.length > 1) make("span", null, `T = ${latencies}`, line);
      make("code", null, data.pool[place], line);
      Object.assign(make("button", "quiet copy", "Copy", line), { type: "button" });
    }
    make("h3", null, "Measured", content);
    const table = make("table", null, null, make("div", "scroll", null, content)), head = make("tr", null, null, make("thead", null, null, table));
    const models = Object.keys(data.costs);
    for (const text of ["T", board.metric, "Network steps", "Quantised ANN", ...models.map((name) => `÷ ANN, ${name}`)]) make("th", "n", text, head);
    const body = make("tbody", null, null, table);
    for (const row of network.rows.filter((r) => r.e === at)) {
      const tr = make("tr", null, null, body);
      const cells = [row.t, number(row.v), row.p ?? "–", row.twin ? number(row.twin[1]) : "–", ...models.map((name) => ratio(row.q ? row.q[name] : null))];
      cells.forEach((text) => make("td", "n", text, tr));
    }
    if (entry.hidden) make("p", "note", `${entry.hidden} other readout windows are in the file. The widest of each latency is shown: choosing the best one here would be choosing on the test data.`, content);
    make("h3", null, "Made with", content);
    const list = make("dl", null, null, content);
    for (const [name, text] of entry.made) { make("dt", null, data.pool[name], list); make("dd", null, data.pool[text], list); }
    make("dt", null, entry.files.length > 1 ? "Files" : "File", list);
    const files = make("dd", null, null, list);
    entry.files.forEach((file, i) => { if (i) files.append(", "); make("a", null, file, files).href = `results/${file.split("/").map(encodeURIComponent).join("/")}`; });
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    title.focus();
    history.replaceState(null, "", `#entry-${id}`);
  }
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  dialog.addEventListener("click", async (event) => {
    if (event.target === dialog) dialog.close();
    if (!event.target.matches(".copy")) return;
    const code = event.target.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // a page opened from disk may not use the clipboard
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-entry]");
    if (button) open(button.dataset.entry);
  });
  const follow = () => { if (location.hash.startsWith("#entry-")) open(decodeURIComponent(location.hash.slice(7))); };
  addEventListener("hashchange", follow);

  // --- boards ---
  const tip = document.getElementById("tip");
  let made = 0;
  const tools = {
    open, number,
    unique: () => { made += 1; return made; },
    tip(text, x, y) {
      tip.hidden = text === null || text === undefined;
      if (tip.hidden) return;
      tip.textContent = text;
      const box = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - box.width - 8))}px`;
      tip.style.top = `${y - box.height - 12 > 8 ? y - box.height - 12 : y + 16}px`;
    },
    words(board, network, row) {
      const error = row.s ? ` ± ${number(row.s)}` : "", steps = Tables.units(row), cost = chosen.value;
      const lines = [network.entries[row.e].label, `${board.metric} ${number(row.v)}${error} at T = ${row.t}`];
      if (steps) lines.push(steps);
      if (row.q && row.q[cost] !== undefined) lines.push(`${ratio(row.q[cost])} of the ANN’s energy (${cost})`);
      if (row.twin) lines.push(`quantised ANN ${number(row.twin[1])}`);
      return lines.join("\n");
    },
  };
  const chosen = document.getElementById("cost"), note = document.getElementById("cost-note");
  for (const name of Object.keys(data.costs)) make("option", null, name, chosen).value = name;
  chosen.value = "45nm" in data.costs ? "45nm" : chosen.options.length ? chosen.options[0].value : "";
  function explain() {
    const model = data.costs[chosen.value];
    note.textContent = model ? `${chosen.value} counts ${model.includes}. It leaves out ${model.excludes}. ${model.source}.` : "";
  }

  class Board {
    constructor(section, board) {
      Object.assign(this, { section, board, at: 0, kind: "steps" });
      const header = section.querySelector("header");
      if (board.networks.length > 1) {
        const select = make("select", null, null, make("label", "chooser", "Network", header));
        select.name = "network";
        board.networks.forEach((network, i) => { make("option", null, this.named(network), select).value = i; });
        select.addEventListener("change", () => { this.at = Number(select.value); this.draw(); });
      } else make("p", "chooser", this.named(board.networks[0]), header);
      const pair = make("div", "pair", null, section);
      this.answers = make("div", null, null, pair);
      const figure = this.figure = make("figure", "plot", null, pair), caption = make("figcaption", null, null, figure);
      make("span", null, board.metric, caption);
      const both = make("span", "switch", null, caption);
      this.buttons = ["steps", "network steps", "energy"].map((kind) => {
        const button = make("button", null, kind, both);
        button.type = "button";
        button.addEventListener("click", () => { this.kind = kind; this.draw(); });
        return button;
      });
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("role", "img");
      svg.setAttribute("tabindex", "0");
      make("div", null, null, figure).append(svg);
      make("p", "below", "", figure);
      this.details = make("details", "more", null, section);
      this.summary = make("summary", null, "", this.details);
      this.rows = new Tables.Rows(this.details, board, () => this.plot());
      if (board.published.length) {
        const outside = make("details", "more", null, section);
        make("summary", null, `Published elsewhere, not measured here (${board.published.length})`, outside);
        this.rows.beside = outside.appendChild(Tables.published(board.published, false));
      }
      this.details.addEventListener("toggle", () => { if (this.details.open) this.rows.show(this.network, chosen.value); });
      this.draw();
    }

    named(network) { return `${network.name}, ${network.samples.toLocaleString("en")} inputs`; }

    get network() { return this.board.networks[this.at]; }

    draw() {
      this.answers.replaceChildren(Tables.answers(this.board, this.network, chosen.value));
      this.buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === this.kind)));
      const count = this.network.rows.length;
      this.summary.textContent = `All ${count === 1 ? "1 row" : `${count} rows`} of this network`;
      if (this.details.open) this.rows.show(this.network, chosen.value);
      this.plot();
    }

    plot() { Plot.draw(this.figure, this.board, this.network, chosen.value, this.kind, tools, this.rows.latency); }
  }

  document.getElementById("overview").append(Tables.overview(data.boards));
  explain();
  for (const section of document.querySelectorAll("[data-board]")) boards.push(new Board(section, data.boards[Number(section.dataset.board)]));
  document.getElementById("published").append(Tables.published(data.others, true));
  chosen.addEventListener("change", () => { explain(); boards.forEach((board) => board.draw()); });
  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => boards.forEach((board) => board.plot())); });
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; boards.forEach((board) => { board.details.open = true; board.rows.show(board.network, chosen.value); }); });
  addEventListener("afterprint", paint);
  follow();
})();
