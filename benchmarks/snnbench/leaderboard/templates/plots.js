// The two plots of a board: a metric against latency and against energy.
"use strict";
const Plots = (() => {
  const STYLES = ["circle", "triangle", "rect", "rectRot", "star", "crossRot"];
  const COSTS = { t: "latency", e: "energy ÷ ANN" };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (label) => css(`--c${label % 10}`);
  const number = (value) => (Math.abs(value) >= 1000 ? value.toFixed(1) : value.toFixed(2));

  // ANN lines and the 95 % interval of each point
  const marks = {
    id: "marks",
    beforeDatasetsDraw(chart) {
      const { ctx, chartArea: area, scales } = chart;
      ctx.save();
      ctx.beginPath();
      ctx.rect(area.left, area.top, area.width, area.height);
      ctx.clip();
      ctx.lineWidth = 1;
      for (const set of chart.data.datasets) {
        if (!set.intervals) continue;
        ctx.strokeStyle = set.borderColor;
        ctx.globalAlpha = 0.45;
        for (const point of set.data) {
          if (point.row.s === null) continue;
          const x = scales.x.getPixelForValue(point.x);
          ctx.beginPath();
          ctx.moveTo(x, scales.y.getPixelForValue(point.y - 1.96 * point.row.s));
          ctx.lineTo(x, scales.y.getPixelForValue(point.y + 1.96 * point.row.s));
          ctx.stroke();
        }
      }
      ctx.restore();
    },
    afterDatasetsDraw(chart) {
      const { ctx, chartArea: area, scales } = chart;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = css("--soft");
      ctx.font = "12px system-ui, sans-serif";
      ctx.setLineDash([5, 4]);
      let last = Infinity;
      for (const line of chart.anns || []) {
        const y = scales.y.getPixelForValue(line.value);
        if (y < area.top - 1 || y > area.bottom) continue;
        ctx.beginPath();
        ctx.moveTo(area.left, y);
        ctx.lineTo(area.right, y);
        ctx.stroke();
        if (Math.abs(y - last) > 14) ctx.fillText(line.text, area.left + 6, y - 5);
        last = y;
      }
      ctx.restore();
    },
  };

  // round numbers around the values: all of them, or those from a little below the ANN on
  function range(data, values, anns, whole) {
    let low = Math.min(...values, ...anns), high = Math.max(...values, ...anns);
    const reference = Math.max(...anns);
    if (!whole && data.higher && reference > 0 && low < 0.8 * reference) low = 0.84 * reference;
    const spread = high - low || Math.abs(high) || 1;
    const rough = spread / 6, power = 10 ** Math.floor(Math.log10(rough));
    const stepSize = [1, 2, 5, 10].map((n) => n * power).find((step) => step >= rough);
    const room = 0.03 * spread;
    const top = Math.ceil((high + room) / stepSize) * stepSize;
    const most = data.metric.includes("%") && high <= 100 ? 100 : Infinity;
    return { min: Math.floor((low - room) / stepSize) * stepSize, max: Math.min(top, most), stepSize };
  }

  function sets(data, rows, cost, published) {
    const found = [];
    const shown = rows.filter((row) => row[cost] !== null);
    const at = (row) => ({ x: row[cost], y: row.v, row });
    data.networks.forEach((_, n) => {
      const front = shown.filter((row) => row.n === n && row.f[cost === "t" ? 0 : 1]).map(at).sort((a, b) => a.x - b.x);
      if (front.length) {
        found.push({
          data: front, borderColor: css("--front") + "88", borderWidth: 7, pointRadius: 0, pointHitRadius: 0, pointHoverRadius: 0,
          stepped: "before", borderCapStyle: "round", borderJoinStyle: "round", order: 9, front: true,
        });
      }
    });
    const entries = new Map();
    for (const row of shown) entries.set(row.id, [...(entries.get(row.id) || []), row]);
    for (const own of entries.values()) {
      const { l, n } = own[0];
      const paint = colour(l);
      found.push({
        data: own.map(at).sort((a, b) => a.x - b.x), borderColor: paint, backgroundColor: paint, borderWidth: 1.75,
        borderDash: l >= 10 ? [6, 3] : [], pointStyle: STYLES[n % STYLES.length], pointRadius: 4, pointHoverRadius: 7,
        pointHitRadius: 8, order: 1, intervals: entries.size <= 24,
      });
    }
    if (cost === "t" && published) {
      found.push({
        data: data.published.map((p) => ({ x: p.t, y: p.v, published: p.name })), showLine: false, pointStyle: "rectRot",
        pointRadius: 5, pointHoverRadius: 7, pointBorderWidth: 1.75, borderColor: css("--out"), backgroundColor: css("--card"), order: 5,
      });
    }
    return found;
  }

  function words(data, point) {
    if (point.published) return [`${point.published}`, `${number(point.y)} at ${point.x} steps`, "published, not measured here"];
    const { row } = point;
    const error = row.s === null ? "" : ` ± ${number(row.s)}`;
    const energy = row.e === null ? "energy not counted" : `energy ÷ ANN ${row.e.toFixed(3)}`;
    return [data.labels[row.l], `${data.networks[row.n].name}`, `${data.metric} ${number(row.v)}${error}`, `latency ${row.t}, ${energy}`];
  }

  function ticks(cost) {
    return (axis) => {
      const inside = (v) => v >= axis.min && v <= axis.max;
      const wanted = cost === "t" ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] : [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20];
      axis.ticks = wanted.filter(inside).map((value) => ({ value }));
    };
  }

  function options(data, cost, open) {
    const axis = { grid: { color: css("--line") }, border: { color: css("--line") }, ticks: { color: css("--soft") } };
    return {
      animation: false, responsive: true, maintainAspectRatio: false,
      interaction: { mode: "nearest", intersect: true },
      onClick: (event, hits, chart) => {
        const hit = hits.map((h) => chart.data.datasets[h.datasetIndex].data[h.index]).find((p) => p.row);
        if (hit) open(hit.row.id);
      },
      onHover: (event, hits, chart) => { chart.canvas.style.cursor = hits.length ? "pointer" : "default"; },
      plugins: {
        legend: { display: false },
        tooltip: {
          displayColors: false, backgroundColor: css("--ink"), titleColor: css("--card"), bodyColor: css("--card"),
          filter: (item) => !item.dataset.front,
          callbacks: {
            title: (items) => (items.length ? words(data, items[0].raw)[0] : ""),
            label: (item) => words(data, item.raw).slice(1),
          },
        },
      },
      scales: {
        x: {
          ...axis, type: "logarithmic", afterBuildTicks: ticks(cost), ticks: { ...axis.ticks, callback: (v) => String(v), maxRotation: 0 },
          title: { display: true, text: COSTS[cost], color: css("--soft") },
        },
        y: { ...axis, ticks: { ...axis.ticks } },
      },
    };
  }

  class Plot {
    constructor(canvas, data, open, tell) {
      Object.assign(this, { canvas, data, open, tell, cost: canvas.dataset.cost, at: -1, points: [] });
      this.below = canvas.closest("figure").querySelector(".below");
      canvas.addEventListener("keydown", (event) => this.key(event));
      canvas.addEventListener("blur", () => this.select(-1));
    }

    draw(rows, settings) {
      const { data, cost } = this;
      if (!this.chart) this.chart = new Chart(this.canvas, { type: "line", data: { datasets: [] }, options: {}, plugins: [marks] });
      const shown = rows.filter((row) => row[cost] !== null);
      const networks = [...new Set(shown.map((row) => row.n))];
      const anns = networks.flatMap((n) => data.networks[n].anns.map((value) => ({
        value, text: `ANN ${number(value)}${data.networks.length > 1 ? `, ${data.networks[n].name}` : ""}`,
      }))).sort((a, b) => b.value - a.value);
      const set = options(data, cost, this.open);
      this.chart.anns = anns;
      if (shown.length) {
        const outside = settings.published && cost === "t" ? data.published : [];
        const values = [...shown.map((row) => row.v), ...outside.map((p) => p.v)];
        const { stepSize, ...y } = range(data, values, anns.map((line) => line.value), settings.whole);
        Object.assign(set.scales.y, y);
        set.scales.y.ticks.stepSize = stepSize;
        const xs = [...shown.map((row) => row[cost]), ...outside.map((p) => p.t)];
        Object.assign(set.scales.x, { min: Math.min(...xs) / 1.2, max: Math.max(...xs) * 1.2 });
        const cut = shown.filter((row) => row.v < y.min).length;
        this.below.textContent = `${cut} ${cut === 1 ? "point lies" : "points lie"} below the axis; “whole range” shows them.`;
        this.below.hidden = !cut;
      } else {
        this.below.textContent = cost === "e" ? "No row here has its energy counted." : "No row matches.";
        this.below.hidden = false;
      }
      this.chart.options = set;
      this.chart.data.datasets = sets(data, shown, cost, settings.published);
      this.chart.update("none");
      this.points = this.chart.data.datasets.flatMap((dataset, datasetIndex) => (dataset.front ? [] : dataset.data.map((point, index) => (
        { datasetIndex, index, point }))))
        .filter(({ point }) => point.y >= (set.scales.y.min ?? -Infinity))
        .sort((a, b) => a.point.x - b.point.x || b.point.y - a.point.y);
      this.at = -1;
    }

    key(event) {
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 };
      if (event.key in moves && this.points.length) {
        event.preventDefault();
        const start = this.at < 0 && moves[event.key] < 0 ? 0 : this.at;
        this.select((start + moves[event.key] + this.points.length) % this.points.length);
      } else if (event.key === "Enter" && this.at >= 0 && this.points[this.at].point.row) {
        this.open(this.points[this.at].point.row.id);
      } else if (event.key === "Escape") {
        this.select(-1);
      }
    }

    select(at) {
      if (!this.chart) return;
      this.at = at;
      const chosen = at < 0 ? [] : [{ datasetIndex: this.points[at].datasetIndex, index: this.points[at].index }];
      this.chart.setActiveElements(chosen);
      const element = chosen.length ? this.chart.getDatasetMeta(chosen[0].datasetIndex).data[chosen[0].index] : { x: 0, y: 0 };
      this.chart.tooltip.setActiveElements(chosen, { x: element.x, y: element.y });
      this.chart.update("none");
      if (chosen.length) this.tell(words(this.data, this.points[at].point).join(", "));
    }
  }
  return { Plot, colour };
})();
