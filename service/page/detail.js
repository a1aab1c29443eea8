/** One hit, large: its picture, captions, metadata, what the stages made of it, and what to ask next. */

import { h, icon } from "./dom.js";
import { score } from "./hits.js";
import { EXPLAINED, printed } from "./inspector.js";
import { followUps } from "./query.js";

const CAPTIONS_SHOWN = 5;

/** The dialog of a hit; arrows inside go to the hits beside it. */
export function createDetail(dialog, index, api, pictures, ask) {
  let shown = { hits: [], at: 0, images: true };
  let reading = null;

  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => reading?.abort());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) go(step);
  });

  function go(step) {
    const at = shown.at + step;
    if (at >= 0 && at < shown.hits.length) show({ ...shown, at });
  }

  function show(next) {
    shown = next;
    reading?.abort();
    reading = new AbortController();
    const hit = shown.hits[shown.at];
    const about = h("div", { class: "about" });
    const item = { ...hit, modality: shown.images ? "image" : "text" };
    const held = dialog.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
    dialog.replaceChildren(
      head(hit),
      h(
        "div",
        { class: "detail-body" },
        h("div", { class: "large" }, large(hit), actions(item)),
        h("div", { class: "facts" }, about, ...tables(hit)),
      ),
    );
    if (held) focusAgain(held);
    if (hit.caption) about.append(h("p", { class: "quote" }, hit.caption));
    if (hit.duplicates?.length) about.append(...near(hit.duplicates));
    if (shown.images) readCaptions(hit, about, reading.signal);
  }

  /** Keep the focus inside, on the button that had it where that one still works. */
  function focusAgain(label) {
    const buttons = [...dialog.querySelectorAll(".tiny:enabled")];
    (buttons.find((one) => one.ariaLabel === label) ?? buttons.at(-1)).focus();
  }

  /** The near-duplicates that a hit stands for: their pictures, or their ids. */
  function near(ids) {
    const picture = (id) =>
      pictures.of(`items/${encodeURIComponent(id)}/image`, { alt: id, words: id });
    const entries = ids.map((id) => h("li", {}, shown.images ? picture(id) : id));
    return [h("h3", {}, "Near-duplicates"), h("ul", { class: "near" }, ...entries)];
  }

  const large = (hit) =>
    pictures.of(hit.image, { alt: hit.caption ?? hit.id, words: hit.id, full: true });

  function head(hit) {
    const button = (label, name, run, disabled) =>
      h(
        "button",
        { type: "button", class: "tiny", "aria-label": label, onclick: run, disabled },
        icon(name),
      );
    return h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "detail-title" }, hit.id),
      h("span", { class: "badge" }, `rank ${hit.rank + 1}`),
      h("span", { class: "badge" }, `score ${score(hit)}`),
      h("span", { class: "space" }),
      button("Previous", "back", () => go(-1), shown.at === 0),
      button("Next", "forward", () => go(1), shown.at === shown.hits.length - 1),
      button("Close", "close", () => dialog.close(), false),
    );
  }

  /** The captions that the gallery holds of a picture; a gallery without them shows none. */
  async function readCaptions(hit, place, signal) {
    try {
      const { captions } = await api.item(hit.id, signal);
      const items = await Promise.all(
        captions.slice(0, CAPTIONS_SHOWN).map((id) => api.item(id, signal)),
      );
      if (items.length)
        place.append(
          h("h3", {}, "Its captions"),
          h("ul", { class: "captions" }, ...items.map(({ caption }) => h("li", {}, caption))),
        );
    } catch (error) {
      if (error.name !== "AbortError")
        place.append(h("p", { class: "empty" }, "Its captions could not be read."));
    }
  }

  function actions(item) {
    const buttons = followUps(index, item).map(({ label, query }) => {
      const run = () => {
        dialog.close();
        ask(query);
      };
      return h("button", { type: "button", class: "action", onclick: run }, icon("similar"), label);
    });
    return h("div", { class: "actions" }, ...buttons);
  }

  return {
    open(answer, hit, images) {
      show({ hits: answer.hits, at: answer.hits.indexOf(hit), images });
      dialog.showModal();
    },
    close: () => dialog.open && dialog.close(),
  };
}

function tables(hit) {
  const explained = hit.explanation
    ? EXPLAINED.filter(({ name }) => hit.explanation[name] !== undefined).map((column) => [
        column.label,
        printed(column, hit.explanation),
      ])
    : [];
  return [
    list(
      "Metadata",
      Object.entries(hit.metadata ?? {}).map(([name, value]) => [name, metadata(value)]),
    ),
    list("Stages", explained),
  ];
}

function list(title, entries) {
  if (!entries.length) return null;
  const rows = entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return h("div", {}, h("h3", {}, title), h("dl", {}, ...rows));
}

const metadata = (value) => (typeof value === "string" ? value : JSON.stringify(value));
