/** The inspector: how candidates moved from stage to stage, as a chart and as a table. */

import { bumpChart, mark, ranksOf, rise, way } from "./bump.js";
import { h } from "./dom.js";
import { fatesOf } from "./fates.js";

const MOST_LINES = 40;
const IDLE = "Point at a line to read its distances and scores.";

/** What an answer explains of a hit, in the order of the stages. */
export const EXPLAINED = [
  { name: "hamming_distance", label: "Hamming distance" },
  { name: "rank_after_hash", label: "Rank after hash", rank: true },
  { name: "pq_score", label: "PQ score", digits: 3 },
  { name: "rank_after_pq", label: "Rank after PQ", rank: true },
  { name: "consistency", label: "Consistency", digits: 3 },
  { name: "reverse_rank", label: "Reverse rank", rank: true },
  { name: "complementarity", label: "Complementarity", digits: 3 },
  { name: "expansion", label: "Expansion", digits: 3 },
  { name: "rank_after_rerank", label: "Rank in the answer", rank: true },
];

/** One explained value in words; ranks count from 1 here, as people do. */
export function printed({ name, rank, digits }, explanation) {
  const value = explanation[name];
  if (value === undefined || value === null) return "–";
  return rank ? String(value + 1) : digits ? value.toFixed(digits) : String(value);
}

/** The inspector in its place: shows an answer that was asked for with `explain`; `why(ids)` asks
 * what became of other items. */
export function createInspector(place, why) {
  let shown = null;
  let width = 0;
  const chart = h("div", { class: "chart" });
  const readout = h("p", { class: "readout", "aria-hidden": "true" });
  // A chart that is hidden has no width, so it is drawn when it gets one.
  new ResizeObserver(([entry]) => draw(Math.floor(entry.contentRect.width))).observe(chart);

  function draw(next) {
    if (!shown || next === 0 || next === width) return;
    width = next;
    const hits = shown.slice(0, MOST_LINES);
    chart.replaceChildren(bumpChart(hits, width, { names, tell, summary: summary(shown) }));
  }

  function tell(hit) {
    mark(chart, hit?.rank);
    readout.textContent = hit ? said(hit) : IDLE;
    readout.toggleAttribute("data-idle", hit === null);
  }

  return {
    show(answer) {
      shown = answer.hits.filter((hit) => hit.explanation);
      width = 0;
      place.hidden = shown.length === 0;
      if (place.hidden) return;
      const fates = fatesOf(answer, why);
      place.replaceChildren(head(shown), readout, chart, fates, alternative(shown, tell));
      tell(null);
      draw(Math.floor(chart.clientWidth));
    },
    hide() {
      shown = null;
      place.hidden = true;
      place.replaceChildren();
    },
  };
}

const names = (hit) => hit.caption ?? hit.id;

function said(hit) {
  const [hash, pq, answer] = ranksOf(hit).map((rank) => rank + 1);
  const { hamming_distance: distance, pq_score: score } = hit.explanation;
  const stages = [
    `hash #${hash} (distance ${distance})`,
    `PQ #${pq} (score ${score.toFixed(3)})`,
    `answer #${answer}`,
  ];
  return `${names(hit)}: ${stages.join(" → ")}`;
}

function summary(hits) {
  const count = (which) => hits.filter((hit) => way(hit) === which).length;
  return `Of ${hits.length}, ${count("rose")} rose, ${count("fell")} fell and ${count("stayed")} stayed from the hash stage to the answer`;
}

function head(hits) {
  const most = hits.reduce((best, hit) => (rise(hit) > rise(best) ? hit : best));
  const far =
    rise(most) > 0 ? ` The longest way up: ${rise(most)} ranks, to #${most.rank + 1}.` : "";
  const cut = hits.length > MOST_LINES ? ` The chart shows the first ${MOST_LINES}.` : "";
  return h(
    "div",
    { class: "inspector-head" },
    h("h2", {}, "From stage to stage"),
    h("p", {}, `${summary(hits)}.${far}${cut}`),
  );
}

function alternative(hits, tell) {
  const columns = EXPLAINED.filter(({ name }) =>
    hits.some((hit) => hit.explanation[name] !== undefined),
  );
  const heads = ["Item", ...columns.map(({ label }) => label)].map((label) =>
    h("th", { scope: "col" }, label),
  );
  const rows = hits.map((hit) =>
    h(
      "tr",
      { onpointerenter: () => tell(hit), onpointerleave: () => tell(null) },
      h("th", { scope: "row" }, names(hit)),
      ...columns.map((column) => h("td", {}, printed(column, hit.explanation))),
    ),
  );
  const caption = h("caption", { class: "unseen" }, "What each stage made of each hit");
  const table = h(
    "table",
    {},
    caption,
    h("thead", {}, h("tr", {}, ...heads)),
    h("tbody", {}, ...rows),
  );
  const scroller = h(
    "div",
    { class: "scroller", tabindex: "0", role: "region", "aria-label": "Table of stages" },
    table,
  );
  return h("details", { class: "alternative" }, h("summary", {}, "Show as a table"), scroller);
}
