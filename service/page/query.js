/** Queries: what is asked, how an address says it, and what may be asked next.
 *
 * A query is {kind: "text", text}, {kind: "item", id, direction} or {kind: "upload", file, number}. */

const DIRECTION = /^(image|text)-to-(image|text)$/;
const uploads = new Map();

/** The query of an image file; it is kept for as long as the page, for back and forward. */
export function uploadQuery(file) {
  const number = uploads.size + 1;
  const query = { kind: "upload", file, number };
  uploads.set(number, query);
  return query;
}

/** The query that an address says, null where it says none; `state` is the history entry's own. */
export function readQuery(parameters, state) {
  const text = parameters.get("q")?.trim();
  if (text) return { kind: "text", text };
  const id = parameters.get("id");
  const direction = parameters.get("in");
  if (id)
    return { kind: "item", id, direction: DIRECTION.test(direction) ? direction : "image-to-text" };
  return uploads.get(state?.upload) ?? null;
}

/** Write a query into an address; returns the state of its history entry. */
export function writeQuery(query, parameters) {
  if (query.kind === "text") parameters.set("q", query.text);
  if (query.kind === "item") {
    parameters.set("id", query.id);
    parameters.set("in", query.direction);
  }
  return query.kind === "upload" ? { upload: query.number } : null;
}

/** The direction of a query's search, named as its route is. */
export function directionOf(query) {
  return { text: "text-to-image", item: query.direction, upload: "image-to-text" }[query.kind];
}

/** Whether the answers to a direction are pictures. */
export const findsImages = (direction) => direction.endsWith("-to-image");

/** Whether a direction stays among items of one kind, which are ranked by cosine. */
export const isAlike = (direction) => direction.split("-to-")[0] === direction.split("-to-")[1];

/** The query's own fields of a request body. */
export function bodyOf(query) {
  switch (query.kind) {
    case "text":
      return spoken(query.text);
    case "item":
      return { id: query.id };
    default:
      return { image: query.file };
  }
}

const AWAY = /(^|\s)-(?:"([^"]+)"|([^\s"-][^\s]*))/g;

/** A text as a search says it: `-word` and `-"some words"` are what the query moves away from. */
export function spoken(text) {
  const minus = [...text.matchAll(AWAY)].map(([, , quoted, word]) => quoted ?? word);
  const query = text.replace(AWAY, " ").trim();
  // Nothing but what is not wanted says nothing to look for: then the words are only words.
  return minus.length && query ? { query, minus } : { query: text };
}

/** The query in a few words. */
export function named(query) {
  switch (query.kind) {
    case "text":
      return `“${query.text}”`;
    case "item":
      return query.id;
    default:
      return query.file.name || "the picture";
  }
}

/** More like an item: the queries that this index can answer about it, each with its label, those
 * for items of its own kind first.
 *
 * A direction is offered as soon as the index says that it accepts an `id`; a caption is also a
 * text that can be searched with. */
export function followUps(index, item) {
  const asked = Object.entries(index.accepts)
    .filter(
      ([direction, fields]) =>
        direction.startsWith(`${item.modality}-to-`) && fields.includes("id"),
    )
    .map(([direction]) => ({
      label: LABELS[direction] ?? direction,
      query: { kind: "item", id: item.id, direction },
    }))
    .sort((one, other) => isAlike(other.query.direction) - isAlike(one.query.direction));
  const byText =
    item.modality === "text" && item.caption && accepts(index, "text-to-image", "query");
  const known = asked.some(({ query }) => query.direction === "text-to-image");
  if (byText && !known) {
    const query = { kind: "text", text: item.caption };
    asked.push({ label: LABELS["text-to-image"], query });
  }
  return asked;
}

/** Whether a direction takes a query field. */
export const accepts = (index, direction, field) =>
  (index.accepts[direction] ?? []).includes(field);

const LABELS = {
  "image-to-text": "Captions for this picture",
  "image-to-image": "Similar pictures",
  "text-to-image": "Pictures for this caption",
  "text-to-text": "Similar captions",
};
