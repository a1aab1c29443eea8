/** The chart of ranks: one line a hit, one column a stage.
 *
 * Ranks that are shown have a row each; what lies beyond is pressed together logarithmically below a
 * dashed line. Every column has this one scale, so a steeper line is a longer way. */

import { svg } from "./dom.js";

const STAGES = [
  { name: "rank_after_hash", label: "Hash" },
  { name: "rank_after_pq", label: "PQ" },
  { name: "rank_after_rerank", label: "Answer" },
];
const HEAD = 34;
const ROW = 24;
const BEYOND = 120;
const GAP = 22;
const WIDE = 640;
// Pixels: of a change such as ▲123, and of a letter beside it.
const LABEL = 72;
const LETTER = 7;

/** Ranks of a hit by stage, 0 = best. */
export const ranksOf = (hit) => STAGES.map(({ name }) => hit.explanation[name]);

/** How many ranks a hit rose from the first stage to the answer; below 0: fell. */
export const rise = (hit) => ranksOf(hit)[0] - ranksOf(hit).at(-1);

/** In a word, the way a hit went. */
export const way = (hit) => (rise(hit) > 0 ? "rose" : rise(hit) < 0 ? "fell" : "stayed");

/** The height of a rank (0 = best) in a chart of `rows` rows whose deepest rank is `deepest`. */
export function heightOf(rank, rows, deepest) {
  if (rank < rows) return HEAD + (rank + 0.5) * ROW;
  const share = Math.log1p(rank - rows + 1) / Math.log1p(Math.max(deepest - rows + 1, 1));
  return HEAD + rows * ROW + GAP + share * BEYOND;
}

/** The chart of hits at a width in pixels; `names(hit)` labels a hit, `tell(hit)` hears which one
 * the pointer is on, null for none. */
export function bumpChart(hits, width, { names, tell, summary }) {
  const longest = Math.max(...hits.map((hit) => names(hit).length));
  const plan = planned(hits, width, longest);
  const chart = svg("svg", {
    class: "bump",
    role: "img",
    "aria-label": summary,
    width,
    height: plan.height,
    viewBox: `0 0 ${width} ${plan.height}`,
  });
  chart.append(
    ...axes(plan, width),
    ...hits.map((hit) => line(hit, plan, names(hit), (on) => tell(on ? hit : null))),
  );
  return chart;
}

function planned(hits, width, longest) {
  const rows = hits.length;
  const deepest = Math.max(...hits.flatMap(ranksOf));
  const left = 46;
  const words = Math.min(LABEL + longest * LETTER, Math.round(width / 2.6));
  const margin = width >= WIDE ? words : LABEL;
  const right = width - margin;
  const x = STAGES.map((_, at) => left + ((right - left) * at) / (STAGES.length - 1));
  const pressed = deepest >= rows;
  const y = (rank) => heightOf(rank, rows, deepest);
  const height = HEAD + rows * ROW + (pressed ? GAP + BEYOND + 12 : 8);
  const letters = width >= WIDE ? Math.floor((margin - LABEL) / LETTER) : 0;
  return { rows, deepest, x, y, height, pressed, letters };
}

function axes({ rows, deepest, x, y, height, pressed }, width) {
  const heads = STAGES.map(({ label }, at) =>
    svg("text", { class: "bump-head", x: x[at], y: 16, "text-anchor": "middle" }, label),
  );
  const rules = x.map((at) =>
    svg("line", { class: "bump-rule", x1: at, x2: at, y1: HEAD - 8, y2: height - 4 }),
  );
  const marks = ticks(rows, deepest).map((rank) =>
    svg(
      "text",
      { class: "bump-tick", x: x[0] - 14, y: y(rank) + 4, "text-anchor": "end" },
      String(rank + 1),
    ),
  );
  const edge = HEAD + rows * ROW + GAP / 2;
  const cut = pressed
    ? [svg("line", { class: "bump-cut", x1: 8, x2: width - 8, y1: edge, y2: edge })]
    : [];
  return [...rules, ...cut, ...heads, ...marks];
}

/** Ranks to name on the left: every fifth row, then round numbers beyond the rows. */
function ticks(rows, deepest) {
  const near = Array.from({ length: rows }, (_, rank) => rank).filter(
    (rank) => rank === 0 || (rank + 1) % 5 === 0,
  );
  const round = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000];
  const far = round.map((one) => one - 1).filter((rank) => rank >= rows + 3 && rank <= deepest);
  const last = [];
  for (const rank of far) {
    const room =
      last.length === 0 ||
      heightOf(rank, rows, deepest) - heightOf(last.at(-1), rows, deepest) > 16;
    if (room) last.push(rank);
  }
  return [...near, ...last];
}

function line(hit, plan, name, tell) {
  const ranks = ranksOf(hit);
  const points = ranks.map((rank, at) => [plan.x[at], plan.y(rank)]);
  const d = path(points);
  const group = svg(
    "g",
    { class: "bump-line", "data-way": way(hit), "data-rank": hit.rank },
    svg("path", { class: "bump-reach", d }),
    svg("path", { class: "bump-stroke", d }),
    ...points.map(([cx, cy]) => svg("circle", { class: "bump-dot", cx, cy, r: 4 })),
    ...label(hit, points.at(-1), plan, name),
  );
  group.addEventListener("pointerenter", () => tell(true));
  group.addEventListener("pointerleave", () => tell(false));
  return group;
}

/** A smooth way through the points, level where it meets a column. */
function path([[x, y], ...rest]) {
  let d = `M${x},${y}`;
  for (const [nextX, nextY] of rest) {
    const middle = (x + nextX) / 2;
    d += `C${middle},${y} ${middle},${nextY} ${nextX},${nextY}`;
    [x, y] = [nextX, nextY];
  }
  return d;
}

function label(hit, [x, y], { letters }, name) {
  const moved = rise(hit);
  const sign = moved > 0 ? `▲${moved}` : moved < 0 ? `▼${-moved}` : "●";
  const change = svg("text", { class: "bump-change", x: x + 14, y: y + 4 }, sign);
  const words = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
  return letters
    ? [change, svg("text", { class: "bump-name", x: x + 62, y: y + 4 }, words)]
    : [change];
}

/** Bring the line of a rank to the front, or none. */
export function mark(chart, rank) {
  const lines = [...chart.querySelectorAll(".bump-line")];
  const marked = lines.find((one) => one.dataset.rank === String(rank));
  for (const one of lines) one.classList.toggle("on", one === marked);
  chart.querySelector(".bump")?.classList.toggle("dim", marked !== undefined);
}
