/** The keyboard: one key to the box, arrows through what was found. */

import { moved } from "./hits.js";

/** Listen to the page's keys; `cancel` ends a search under way and says whether there was one. */
export function listen({ text, hits, focusBox, cancel }) {
  document.addEventListener("keydown", (event) => {
    if (
      event.defaultPrevented ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      document.querySelector("dialog[open]")
    )
      return;
    const { target, key } = event;
    if (key === "Escape" && cancel()) return event.preventDefault();
    if (key === "/" && (!typing(target) || (target === text && text.value === ""))) {
      event.preventDefault();
      return focusBox();
    }
    const next =
      target === text
        ? fromBox(key, hits)
        : hits.contains(target)
          ? within(target, key, hits, text)
          : null;
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

const typing = (element) => element.matches("input, textarea, select");

const fromBox = (key, hits) => (key === "ArrowDown" ? hits.querySelector(".open") : null);

function within(target, key, hits, text) {
  const from = target.closest("li").querySelector(".open");
  const next = moved(hits, from, key);
  const leaves = key === "Escape" || (key === "ArrowUp" && next === from);
  return leaves ? text : next;
}
