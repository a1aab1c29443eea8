/** The API key: asked for only after a server wanted one, kept for as long as the tab. */

import { byId, h, stored } from "./dom.js";

/** The store of the key. */
export const keyStore = () => stored(() => sessionStorage, "meet.key");

/** The key's small form; `retry` runs when a key was given. */
export function createAccess(key, retry) {
  const form = byId("key");

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form).get("key").trim();
    key.set(given || null);
    form.hidden = true;
    retry();
  });

  return {
    /** Ask for a key; a key that was sent already was the wrong one. */
    ask() {
      const label = key.get()
        ? "This API key was refused. Another one:"
        : "This server needs an API key:";
      const input = h("input", {
        id: "key-field",
        type: "password",
        name: "key",
        autocomplete: "off",
        required: true,
      });
      form.replaceChildren(
        h("label", { for: "key-field" }, label),
        h(
          "span",
          { class: "key-row" },
          input,
          h("button", { type: "submit", class: "go" }, "Use key"),
        ),
      );
      form.hidden = false;
      input.focus();
    },
  };
}
