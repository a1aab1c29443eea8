/** The metadata filter: rows of field, comparison and value, for indexes that list their fields. */

import { h, icon } from "./dom.js";

const COMPARISONS = {
  eq: { label: "is", encode: scalar },
  in: {
    label: "is one of",
    encode: (text) => ({ in: text.split(",").map((part) => scalar(part.trim())) }),
  },
  gte: { label: "is at least", encode: (text) => ({ gte: scalar(text) }) },
  lte: { label: "is at most", encode: (text) => ({ lte: scalar(text) }) },
};

/** The names of the metadata fields that the index lists. */
const fieldsOf = ({ metadata_fields: listed }) =>
  Array.isArray(listed) ? listed : Object.keys(listed ?? {});

/** The control `filter`: a list of {field, comparison, value}, as an address and a body say it. */
export const FILTER = {
  name: "filter",
  label: "Filter",
  offered: (index) => fieldsOf(index).length > 0,
  parse: parsed,
  print: (rows) => JSON.stringify(rows.map((row) => [row.field, row.comparison, row.value])),
  body: encoded,
  field: rowsOf,
};

function parsed(text) {
  try {
    const rows = JSON.parse(text);
    return rows
      .filter(([, comparison]) => Object.hasOwn(COMPARISONS, comparison))
      .map(([field, comparison, value]) => ({ field, comparison, value: String(value) }));
  } catch {
    return undefined; // an address that somebody cut short
  }
}

function encoded(rows) {
  const body = {};
  for (const { field, comparison, value } of rows.filter((row) => row.value !== "")) {
    const told = COMPARISONS[comparison].encode(value);
    const range = typeof told === "object" && typeof body[field] === "object";
    body[field] = range ? { ...body[field], ...told } : told;
  }
  return Object.keys(body).length ? body : undefined;
}

/** A number or truth value where the text reads as one, else the text. */
function scalar(text) {
  if (text === "true" || text === "false") return text === "true";
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function rowsOf(control, value, index, onChange) {
  const place = h("div", { class: "filters", role: "group", "aria-label": "Metadata filters" });
  let rows = value ?? [];
  const told = (change) => {
    const next = change(rows);
    const [before, now] = [rows, next].map((one) => JSON.stringify(encoded(one)));
    const moved = rows.length !== next.length;
    rows = next;
    if (moved) show();
    // A row that has no value yet asks for nothing.
    if (before !== now) onChange(rows.length ? rows : undefined);
  };
  const show = () => {
    const add = () => {
      rows = [...rows, { field: fieldsOf(index)[0], comparison: "eq", value: "" }];
      show();
      place.querySelector(".filter:last-of-type select").focus();
    };
    const button = h("button", { type: "button", class: "quiet", onclick: add }, "Add filter");
    place.replaceChildren(...rows.map((row, at) => rowOf(row, at, index, told)), button);
  };
  show();
  return place;
}

function rowOf(row, at, index, told) {
  const changed = (part) => (event) =>
    told((rows) => rows.map((one, i) => (i === at ? { ...one, [part]: event.target.value } : one)));
  const choice = (part, choices) =>
    h(
      "select",
      { "aria-label": `${part} of filter ${at + 1}`, onchange: changed(part) },
      ...choices.map(([name, label]) =>
        h("option", { value: name, selected: name === row[part] }, label),
      ),
    );
  const remove = () => told((rows) => rows.filter((_, i) => i !== at));
  return h(
    "div",
    { class: "filter" },
    choice(
      "field",
      fieldsOf(index).map((name) => [name, name]),
    ),
    choice(
      "comparison",
      Object.entries(COMPARISONS).map(([name, { label }]) => [name, label]),
    ),
    h("input", {
      "aria-label": `value of filter ${at + 1}`,
      value: row.value,
      onchange: changed("value"),
    }),
    h(
      "button",
      { type: "button", class: "tiny", "aria-label": `Remove filter ${at + 1}`, onclick: remove },
      icon("close"),
    ),
  );
}
