/** The box that a search starts in: words, or a picture that is chosen, dropped or pasted. */

import { byId, h, icon } from "./dom.js";
import { accepts, named, uploadQuery } from "./query.js";

const NO_WORDS = {
  images: "This gallery holds no pictures, so it cannot be searched by words.",
  encoder: "This index takes no words.",
};
const NO_PICTURES = {
  captions: "This gallery holds no captions, so it cannot be searched by a picture.",
  encoder: "This index takes no picture files.",
};

/** The box over one index; `ask(query)` starts a search, `refuse(problem)` shows why one cannot. */
export function createAsk(index, pictures, { ask, refuse }) {
  const text = byId("text");
  const file = byId("file");
  const words = accepts(index, "text-to-image", "query");
  const files = accepts(index, "image-to-text", "image");
  let local = null;

  text.disabled = byId("go").disabled = !words;
  byId("choose").disabled = !files;
  byId("choose").hidden = !files;
  text.placeholder = placeholder(words, files);
  note(reasons(index, words, files));

  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (said) ask({ kind: "text", text: said });
    else text.focus();
  });
  byId("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    take(file.files[0]);
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    const [pasted] = [...(event.clipboardData?.files ?? [])];
    if (!pasted) return;
    event.preventDefault();
    take(pasted);
  });
  watchDrops(byId("drop"), (dropped) => {
    if (dropped) take(dropped);
    else
      refuse({
        title: "That was no picture file",
        detail: "Drop a picture file. Links are not fetched.",
        code: "no_file",
      });
  });

  function take(chosen) {
    if (!chosen) return;
    if (!files)
      return refuse({
        title: "No search by a picture here",
        detail: reasons(index, true, false),
        code: "no_captions",
      });
    // A file whose kind nobody knows may still be a picture: the server looks into it.
    if (chosen.type && !chosen.type.startsWith("image/"))
      return refuse({
        title: "That was no picture file",
        detail: `${chosen.name || "The file"} is ${chosen.type}: take a JPEG, PNG, WebP, GIF or BMP.`,
        code: "no_picture",
      });
    const most = index.limits.max_body_bytes;
    if (chosen.size > most) {
      const detail = `A picture takes at most ${megabytes(most)}, this one has ${megabytes(chosen.size)}.`;
      return refuse({ title: "The picture is too large", detail, code: "body_too_large" });
    }
    ask(uploadQuery(chosen));
  }

  function preview(query) {
    if (local) URL.revokeObjectURL(local);
    local = query.kind === "upload" ? URL.createObjectURL(query.file) : null;
    if (local) return drawn(local, "");
    // A caption has no picture of its own.
    if (query.direction.startsWith("text-")) return null;
    return pictures.of(`items/${encodeURIComponent(query.id)}/image`, { alt: "" });
  }

  return {
    focus() {
      text.focus();
      text.select();
    },
    /** Show a query in the box, or an empty box. */
    show(query) {
      const picture = query !== null && query.kind !== "text";
      const picked = byId("picked");
      text.value = query?.kind === "text" ? query.text : "";
      picked.hidden = !picture;
      picked.replaceChildren();
      if (!picture) return;
      const remove = () => {
        picked.hidden = true;
        text.focus();
      };
      picked.append(
        ...[preview(query)].filter(Boolean),
        h("span", { class: "picked-name" }, named(query)),
        h(
          "button",
          {
            type: "button",
            class: "tiny",
            "aria-label": `Remove ${named(query)}`,
            onclick: remove,
          },
          icon("close"),
        ),
      );
    },
    /** The query's picture, for beside its answers; null for words. */
    picture: (query) =>
      query.kind === "upload"
        ? drawn(local, named(query))
        : query.direction?.startsWith("image-to-")
          ? pictures.of(`items/${encodeURIComponent(query.id)}/image`, { alt: named(query) })
          : null,
  };
}

/** The picture of a file, or a drawing in its place where the file holds none. */
function drawn(src, alt) {
  const image = h("img", { src, alt });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "tile" }, icon("image"))));
  return image;
}

/** One line under the box, or none. */
function note(words) {
  byId("note").textContent = words;
  byId("note").hidden = words === "";
}

function watchDrops(overlay, dropped) {
  const carriesFile = (event) =>
    event.dataTransfer &&
    [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
  let depth = 0;
  const show = (next) => {
    depth = Math.max(next, 0);
    overlay.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => carriesFile(event) && show(depth + 1));
  document.addEventListener("dragleave", (event) => carriesFile(event) && show(depth - 1));
  document.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    show(0);
    if (!carriesFile(event)) return;
    event.preventDefault();
    dropped(event.dataTransfer.files[0] ?? null);
  });
}

function placeholder(words, files) {
  if (words) return files ? "Describe a picture, or drop one here" : "Describe a picture";
  return files ? "Drop a picture here to find its captions" : "Search by vector through the API";
}

/** Why a side of the search is missing; empty where none is. */
function reasons(index, words, files) {
  const why = [];
  if (!words) why.push(index.counts.image ? NO_WORDS.encoder : NO_WORDS.images);
  if (!files) why.push(index.counts.text ? NO_PICTURES.encoder : NO_PICTURES.captions);
  return why.join(" ");
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
