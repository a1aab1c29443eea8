/** Pictures of the gallery, shown as soon as they are needed. */

import { address } from "./api.js";
import { h } from "./dom.js";

/** A maker of pictures; with an API key they are fetched, for an <img> cannot send a header. */
export function createPictures(api, key) {
  async function fetched(image, path) {
    try {
      const local = URL.createObjectURL(await api.blob(path));
      image.addEventListener("load", () => URL.revokeObjectURL(local), { once: true });
      image.src = local;
    } catch {
      image.dispatchEvent(new Event("error"));
    }
  }

  function load(image, path) {
    if (key.get()) fetched(image, path);
    else image.src = address(path);
  }

  return {
    /** An <img> of a server path; a plain tile with `words` where there is no picture. */
    of(path, { alt = "", words = "", full = false } = {}) {
      if (!path) return tile(words);
      const image = h("img", { alt, loading: "lazy", decoding: "async" });
      let paths = full ? [`${path}?size=full`, path] : [path];
      image.addEventListener("error", () => {
        paths = paths.slice(1);
        if (paths.length) load(image, paths[0]);
        else image.replaceWith(tile(words));
      });
      load(image, paths[0]);
      return image;
    },
  };
}

const tile = (words) => h("span", { class: "tile" }, words || "no picture");
