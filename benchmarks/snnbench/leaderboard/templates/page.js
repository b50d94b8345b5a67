// Theme, tables, filters and details. Boards come to life when they scroll into view.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const boards = [];
  const remembered = { get() { try { return localStorage.getItem("theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("theme", value); } catch { /* a file opened from disk may not store */ } } };

  function paint(theme) {
    root.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    const button = document.getElementById("theme");
    button.querySelector("span").textContent = theme;
    button.setAttribute("aria-label", `Colour scheme: ${theme}`);
    boards.forEach((board) => board.redraw());
  }
  let theme = remembered.get() || "auto";
  document.getElementById("theme").addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme];
    remembered.set(theme);
    paint(theme);
  });
  dark.addEventListener("change", () => paint(theme));

  // --- details ---
  const dialog = document.getElementById("details");
  const content = dialog.querySelector(".content");
  function open(name) {
    const template = document.getElementById(`entry-${name}`);
    if (!template) return;
    content.replaceChildren(template.content.cloneNode(true));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    content.querySelector("h2").focus();
    history.replaceState(null, "", `#entry-${name}`);
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
  const missing = (a, b, compare) => (a === "" ? (b === "" ? 0 : 1) : b === "" ? -1 : compare(Number(a), Number(b)));
  DataTable.type("figure", "order", {
    asc: (a, b) => missing(a, b, (x, y) => x - y),
    desc: (a, b) => missing(a, b, (x, y) => y - x),
  });

  class Board {
    constructor(section) {
      this.section = section;
      this.form = section.querySelector("form");
      this.data = JSON.parse(section.querySelector("script.data").textContent);
      this.off = new Set();
    }

    start() {
      if (this.table) return;
      const element = this.section.querySelector("table.results");
      const heads = [...element.tHead.rows[0].cells];
      const columns = heads.map((th) => (th.matches(".n") ? { type: "figure" } : null));
      this.table = new DataTable(element, {
        columns, order: [[1, this.data.higher ? "desc" : "asc"]], pageLength: 25, autoWidth: false, searching: true,
        lengthMenu: [25, 100, { label: "all", value: -1 }], pagingType: "simple_numbers",
        layout: { topStart: null, topEnd: null, bottomStart: ["info", "pageLength"], bottomEnd: "paging" },
        language: { info: "_START_ to _END_ of _TOTAL_ rows", infoFiltered: "(of _MAX_)", infoEmpty: "no rows", lengthMenu: "_MENU_ a page",
          zeroRecords: "No row matches." },
      });
      this.table.search.fixed("filters", (text, values, index) => this.keeps(this.data.rows[index]));
      element.tHead.addEventListener("keydown", (event) => { // a button answers to the space bar as well
        if (event.key !== " " || !event.target.matches(".dt-column-order")) return;
        event.preventDefault();
        event.target.click();
      });
      const live = this.section.querySelector(".live");
      this.plots = [...this.section.querySelectorAll("canvas")].map((canvas) => new Plots.Plot(canvas, this.data, open,
        (text) => { live.textContent = text; }));
      this.form.addEventListener("input", () => this.update());
      this.form.addEventListener("reset", () => setTimeout(() => { this.off.clear(); this.update(); }));
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.update();
    }

    read() {
      const field = (name) => this.form.elements[name];
      const typed = (name) => (field(name).value === "" ? Infinity : Number(field(name).value));
      this.settings = {
        network: field("network") && field("network").value !== "" ? Number(field("network").value) : null,
        latency: typed("latency"), energy: typed("energy"), front: field("front").checked,
        published: Boolean(field("published")) && field("published").checked, whole: field("whole").checked,
      };
    }

    keeps(row) {
      const { network, latency, energy, front } = this.settings;
      return !this.off.has(row.l) && (network === null || row.n === network) && row.t <= latency
        && (energy === Infinity || (row.e !== null && row.e <= energy)) && (!front || row.f[0] + row.f[1] > 0);
    }

    update() {
      this.read();
      this.table.search(this.form.elements.search.value).draw();
      this.redraw();
    }

    redraw() {
      if (!this.table) return;
      this.read();
      const kept = this.table.rows({ search: "applied", order: "index" }).indexes().toArray();
      const rows = kept.map((index) => this.data.rows[index]);
      this.plots.forEach((plot) => plot.draw(rows, this.settings));
      this.legend();
    }

    legend() {
      const box = this.section.querySelector(".legend");
      const focused = box.contains(document.activeElement) ? document.activeElement.dataset.label : null;
      const key = (className, text) => {
        const span = document.createElement("span");
        span.append(Object.assign(document.createElement("i"), { className }), text);
        return span;
      };
      box.replaceChildren(...this.data.labels.map((text, label) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
        button.dataset.label = label;
        button.setAttribute("aria-pressed", String(!this.off.has(label)));
        const dot = Object.assign(document.createElement("i"), { className: label >= 10 ? "ring" : "" });
        dot.style.color = Plots.colour(label);
        button.prepend(dot);
        button.addEventListener("click", () => {
          if (!this.off.delete(label)) this.off.add(label);
          this.update();
        });
        return button;
      }), key("dash", "ANN"), key("bar", "Pareto front"), ...(this.settings.published ? [key("hollow", "published, not measured here")] : []));
      if (focused !== null) box.querySelector(`[data-label="${focused}"]`).focus();
    }

    print() {
      this.start();
      this.length = this.table.page.len();
      this.table.page.len(-1).draw();
      this.plots.forEach((plot) => plot.chart.resize());
    }
  }

  boards.push(...[...document.querySelectorAll("[data-board]")].map((section) => new Board(section)));
  paint(theme);
  const watch = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    watch.unobserve(target);
    boards.find((board) => board.section === target).start();
  }), { rootMargin: "400px" });
  boards.forEach((board) => watch.observe(board.section));
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; boards.forEach((board) => { board.print(); board.redraw(); }); });
  addEventListener("afterprint", () => { boards.forEach((board) => board.table.page.len(board.length).draw()); paint(theme); });
  follow();
})();
