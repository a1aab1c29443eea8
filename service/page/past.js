/** The searches of before, kept in this browser alone; uploaded pictures are not kept. */

import { h, icon, stored } from "./dom.js";
import { named } from "./query.js";

const MOST = 50;
const RECENT = 6;

/** The history dialog behind its button, and the latest searches under the empty page's box. */
export function createPast({ dialog, opener, recent, ask }) {
  const store = stored(() => localStorage, "meet.history");
  let kept = read(store);

  opener.addEventListener("click", () => {
    showAll();
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  showRecent();

  function keep(next) {
    kept = next.slice(0, MOST);
    store.set(kept.length ? JSON.stringify(kept) : null);
    showRecent();
  }

  function chosen(query) {
    dialog.close();
    ask(query);
  }

  function showRecent() {
    const chips = kept
      .slice(0, RECENT)
      .map((query) =>
        h("button", { type: "button", class: "chip", onclick: () => chosen(query) }, label(query)),
      );
    recent.replaceChildren(h("h2", { class: "recent-title" }, "Recent"), ...chips);
    recent.hidden = chips.length === 0;
  }

  function showAll() {
    const clear = () => {
      keep([]);
      showAll();
    };
    const close = h(
      "button",
      { type: "button", class: "tiny", "aria-label": "Close", onclick: () => dialog.close() },
      icon("close"),
    );
    const entries = kept.map((query) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "past", onclick: () => chosen(query) },
          h("span", {}, label(query)),
          h("time", {}, when(query.at)),
        ),
      ),
    );
    dialog.replaceChildren(
      h("div", { class: "dialog-head" }, h("h2", { id: "history-title" }, "History"), close),
      entries.length ? h("ol", {}, ...entries) : h("p", { class: "empty" }, "No searches yet."),
      h(
        "div",
        { class: "dialog-foot" },
        h("p", {}, "Kept in this browser only; pictures you upload are not."),
        entries.length > 0 &&
          h("button", { type: "button", class: "quiet", onclick: clear }, "Clear history"),
      ),
    );
  }

  return {
    add(query) {
      if (query.kind === "upload") return;
      const others = kept.filter((one) => label(one) !== label(query));
      keep([{ ...query, at: Date.now() }, ...others]);
    },
  };
}

function label(query) {
  const what = { "image-to-text": "Captions for", "text-to-image": "Pictures for" }[query.direction];
  return query.kind === "text" ? query.text : `${what ?? "Like"} ${named(query)}`;
}

function when(at) {
  return new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function read(store) {
  try {
    const kept = JSON.parse(store.get() ?? "[]");
    return Array.isArray(kept) ? kept.filter(isQuery) : [];
  } catch {
    return []; // written by something else
  }
}

function isQuery(one) {
  return (
    (one?.kind === "text" && typeof one.text === "string") ||
    (one?.kind === "item" && typeof one.id === "string" && typeof one.direction === "string")
  );
}
