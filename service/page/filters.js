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
    body[field] = field in body ? both(terms(body[field]), terms(told)) : told;
  }
  return Object.keys(body).length ? body : undefined;
}

const terms = (condition) => (typeof condition === "object" ? condition : { eq: condition });

/** One condition that holds where both do. */
function both(one, other) {
  const whole = { ...one };
  for (const [operator, value] of Object.entries(other)) {
    if (!(operator in whole)) whole[operator] = value;
    else if (operator === "gte") whole.gte = value > whole.gte ? value : whole.gte;
    else if (operator === "lte") whole.lte = value < whole.lte ? value : whole.lte;
    else if (operator === "in") whole.in = whole.in.filter((part) => value.includes(part));
    else if (value !== whole.eq) whole.in = (whole.in ?? [value]).filter((part) => part === value);
  }
  return whole;
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?$/i;

/** A number or truth value where the text reads as one, else the text; quotes make it a text. */
function scalar(text) {
  if (text === "true" || text === "false") return text === "true";
  if (NUMBER.test(text)) return Number(text);
  return /^".*"$/.test(text) ? text.slice(1, -1) : text;
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
      [...new Set([...fieldsOf(index), row.field])].map((name) => [name, name]),
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
