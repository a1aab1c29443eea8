/** What was found: a grid of pictures or a list of captions. */

import { h, icon } from "./dom.js";
import { findsImages, followUps } from "./query.js";

/** A list that shows answers; `open(hit)` and `ask(query)` are what its buttons do. */
export function createHits(place, index, pictures, { open, ask }) {
  place.addEventListener("focusin", ({ target }) => roving(place, target.closest("li")));
  return {
    /** Show an answer's hits. */
    show({ direction, hits }) {
      const images = findsImages(direction);
      place.dataset.kind = images ? "image" : "text";
      place.replaceChildren(...hits.map((hit) => entry(hit, images)));
      roving(place);
    },
    /** Show hits behind those that are there, and put the focus on the first of them. */
    append({ direction }, hits) {
      const added = hits.map((hit) => entry(hit, findsImages(direction)));
      place.append(...added);
      roving(place, added[0]);
      added[0]?.querySelector(".open").focus();
    },
    /** Show that an answer is on its way, with as many places as hits are wanted. */
    wait(direction, k) {
      place.dataset.kind = findsImages(direction) ? "image" : "text";
      const count = Math.min(Number(k) || 10, 30);
      place.replaceChildren(
        ...Array.from({ length: count }, () =>
          h("li", { class: "hit waiting", "aria-hidden": "true" }),
        ),
      );
    },
    clear: () => place.replaceChildren(),
    focus: () => place.querySelector(".open")?.focus(),
  };

  function entry(hit, images) {
    const item = { ...hit, modality: images ? "image" : "text" };
    const [next] = followUps(index, item);
    return h("li", { class: "hit" }, images ? picture(hit) : caption(hit), next && more(next, hit));
  }

  function picture(hit) {
    const name = `Picture, rank ${hit.rank + 1}: ${hit.id}`;
    return h(
      "button",
      {
        type: "button",
        class: "open",
        "aria-label": `${name}, score ${score(hit)}`,
        onclick: () => open(hit),
      },
      h("span", { class: "frame" }, pictures.of(hit.image, { alt: "", words: hit.id })),
      h(
        "span",
        { class: "line" },
        rank(hit),
        h("span", { class: "name" }, hit.id),
        ...marks(hit),
        h("span", { class: "score" }, score(hit)),
      ),
    );
  }

  function caption(hit) {
    return h(
      "button",
      { type: "button", class: "open", onclick: () => open(hit) },
      rank(hit),
      hit.image && h("span", { class: "frame" }, pictures.of(hit.image, { alt: "" })),
      h("span", { class: "words" }, hit.caption ?? hit.id),
      ...marks(hit),
      h("span", { class: "score" }, score(hit)),
    );
  }

  function more({ label, query }, hit) {
    const name = `${label}: ${hit.caption ?? hit.id}`;
    return h(
      "button",
      {
        type: "button",
        class: "more",
        title: label,
        "aria-label": name,
        onclick: () => ask(query),
      },
      icon("similar"),
    );
  }
}

/** What else is to be known of a hit at a glance. */
function marks({ same_image: own, duplicates = [], n_duplicates: count = duplicates.length }) {
  return [
    own && h("span", { class: "mark-own" }, "same picture"),
    count > 0 && h("span", { class: "mark-near", title: `${count} near-duplicates` }, `+${count}`),
  ];
}

/** A rank as people count, from 1; answers of the API count from 0. */
const rank = (hit) =>
  h(
    "span",
    { class: "rank", title: `Rank ${hit.rank + 1}${hit.rank === 0 ? ", the best" : ""}` },
    `#${hit.rank + 1}`,
  );

/** A score as people read it. */
export const score = (hit) => hit.score.toFixed(3);

/** One stop of the Tab key in a list of many: the arrows move it. */
function roving(place, current = place.firstElementChild) {
  for (const one of place.children) {
    for (const button of one.querySelectorAll("button")) button.tabIndex = one === current ? 0 : -1;
  }
}

/** The entry to go to from `from` by an arrow, Home or End; null for any other key. */
export function moved(place, from, key) {
  const entries = [...place.querySelectorAll(".open")];
  const at = entries.indexOf(from);
  if (at < 0) return null;
  const columns = entries.filter((one) => top(one) === top(entries[0])).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (key === "Home") return entries[0];
  if (key === "End") return entries.at(-1);
  return key in steps ? (entries[at + steps[key]] ?? entries[at]) : null;
}

const top = (button) => button.parentElement.offsetTop;
