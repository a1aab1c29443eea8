/** What became of an item that was expected: one line for each that is asked about. */

import { h, icon } from "./dom.js";

const MOST = 16;
const MOST_OFFERED = 200;
// Ids that answers have shown in this page, the latest first: what is missing now was there before.
const seen = new Set();

/** The form that asks about an item by its id, with a line for each that was asked about. */
export function fatesOf({ hits, why_not: told = [] }, why) {
  const asked = told.map(({ id }) => id);
  const offered = [...seen].filter((id) => !hits.some((hit) => hit.id === id));
  for (const { id } of hits) seen.add(id);
  const input = h("input", {
    id: "why-not",
    name: "id",
    list: "why-not-seen",
    required: true,
    autocomplete: "off",
    placeholder: "id of an item",
  });
  const form = h(
    "form",
    { class: "why-form" },
    h("label", { for: "why-not" }, "Where is"),
    input,
    h(
      "datalist",
      { id: "why-not-seen" },
      ...offered.slice(-MOST_OFFERED).map((id) => h("option", { value: id })),
    ),
    h("button", { type: "submit", class: "quiet" }, "Tell me"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const id = input.value.trim();
    if (id) why([...new Set([...asked, id])].slice(-MOST));
  });
  const lines = told.map((one) => line(one, () => why(asked.filter((id) => id !== one.id))));
  return h("div", { class: "why" }, form, h("ul", { class: "fates" }, ...lines));
}

function line(told, forget) {
  const button = h(
    "button",
    { type: "button", class: "tiny", "aria-label": `Forget ${told.id}`, onclick: forget },
    icon("close"),
  );
  return h(
    "li",
    { "data-fate": told.fate },
    h("span", {}, h("b", {}, told.id), " ", said(told)),
    button,
  );
}

/** A fate in words; ranks count from 1, as people do. */
export function said(told) {
  const words = WORDS[told.fate];
  const way = [
    told.rank_after_hash !== undefined &&
      `hash #${told.rank_after_hash + 1}${told.hamming_distance === undefined ? "" : ` (distance ${told.hamming_distance})`}`,
    told.rank_after_pq !== undefined && `PQ #${told.rank_after_pq + 1}`,
    told.rank_after_rerank !== undefined && `answer #${told.rank_after_rerank + 1}`,
  ].filter(Boolean);
  return [words ? words(told) : told.fate, ...way].join(" · ");
}

const WORDS = {
  found: () => "is among the results",
  earlier: () => "is on an earlier page",
  asked_with: () => "is what you searched with",
  unknown: () => "is not in this gallery",
  other_kind: () => "is of the kind that this search does not look for",
  filter: () => "does not pass the filter",
  hash: ({ kept_by_hash: kept }) => `was dropped by the hash stage, which keeps ${kept}`,
  pq: ({ kept_by_pq: kept }) => `was dropped by the PQ stage, which keeps ${kept}`,
  rerank: () => "comes behind the last result",
  min_score: () => "has less than the least score",
  collapsed: ({ represented_by: by }) => `is merged as a near-duplicate${by ? ` of ${by}` : ""}`,
};
