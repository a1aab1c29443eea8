/** What a search can be told beside its query: built from what `GET /index` says it takes.
 *
 * To add an option, add a row to `CONTROLS`: the panel, the address and the request follow. */

import { FILTER } from "./filters.js";
import { h } from "./dom.js";

const K_CHOICES = [10, 20, 50, 100];
// Hash codes that differ in at most so many bits are of near-duplicates.
const NEAR_BITS = 2;
const RERANK_LABELS = {
  learned: "Learned",
  relationship: "Relationship",
  pillar: "Pillar (LeaPRR)",
  reference: "Reference rule",
  none: "Cosine only",
};

/** Whether the index lists this option among those that its searches take. */
const lists = (index, name) => Array.isArray(index.options) && index.options.includes(name);

const CONTROLS = [
  {
    name: "k",
    label: "Results",
    main: true,
    kind: "choice",
    offered: () => true,
    choices: (index) => K_CHOICES.filter((k) => k <= index.limits.max_k),
    fallback: (index) => Math.min(20, index.limits.max_k),
    always: true,
    parse: number,
  },
  {
    name: "rerank",
    label: "Ranking",
    main: true,
    kind: "choice",
    offered: (index) => index.rerank.length > 1,
    choices: (index) => index.rerank,
    fallback: (index) => index.default_rerank,
    named: (mode) => RERANK_LABELS[mode] ?? mode,
    parse: String,
  },
  optional("exact", "Exact search", "switch", (text) => text === "true"),
  {
    ...optional("collapse", "Merge near-duplicates", "switch", (text) => text === "true"),
    body: () => NEAR_BITS,
  },
  optional("min_score", "Least score, 0 to 1", "number", number),
  FILTER,
];

/** The panel's options of one index: read from and written to an address, shown in `place`. */
export function createOptions(place, index, onChange) {
  const controls = CONTROLS.filter((control) => control.offered(index));
  let values = {};

  const fallback = (control) => control.fallback?.(index);
  const changed = (control, value) => {
    values = { ...values, [control.name]: value };
    onChange();
  };
  const show = () => {
    const focused = place.contains(document.activeElement) ? document.activeElement : null;
    const shown = (control) =>
      (control.field ?? field)(control, values[control.name], index, (v) => changed(control, v));
    const [always, others] = [true, false].map((main) =>
      controls.filter((control) => Boolean(control.main) === main),
    );
    place.replaceChildren(...always.map(shown), ...(others.length ? [more(others, shown)] : []));
    if (focused) sameField(place, focused)?.focus();
  };

  /** The controls that most searches leave alone: behind one button, open where one is set. */
  function more(others, shown) {
    const set = others.filter((control) => values[control.name] !== fallback(control));
    const open = place.querySelector("details")?.open || set.length > 0;
    const fields = h("div", { class: "more-fields" }, ...others.map(shown));
    return h("details", { class: "more-options", open }, h("summary", {}, "Options"), fields);
  }

  return {
    read(parameters) {
      const given = (control) => parameters.get(control.name);
      values = Object.fromEntries(
        controls.map((control) => [
          control.name,
          given(control) === null ? fallback(control) : control.parse(given(control)),
        ]),
      );
      show();
    },
    write(parameters) {
      for (const control of controls) {
        const value = values[control.name];
        const said = control.always || String(value) !== String(fallback(control));
        if (said && value !== undefined) parameters.set(control.name, text(control, value));
      }
    },
    /** The fields of a request's body; items of one kind have one way to be ranked. */
    fields({ alike = false } = {}) {
      const told = controls
        .filter((control) => control.always || values[control.name] !== fallback(control))
        .filter((control) => !(alike && control.name === "rerank"));
      const body = told.map((c) => [c.name, c.body ? c.body(values[c.name]) : values[c.name]]);
      return Object.fromEntries(body.filter(([, value]) => value !== undefined));
    },
  };
}

/** The field that took the place of one that had the focus. */
function sameField(place, { name, ariaLabel }) {
  const fields = [...place.querySelectorAll("select, input, button")];
  return fields.find((one) => (name ? one.name === name : one.ariaLabel === ariaLabel));
}

function optional(name, label, kind, parse) {
  const fallback = kind === "switch" ? () => false : undefined;
  return { name, label, kind, parse, fallback, offered: (index) => lists(index, name) };
}

/** A number, or the text itself so that the server can name what is wrong with it. */
function number(text) {
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

const text = (control, value) => (control.print ? control.print(value) : String(value));

function field(control, value, index, onChange) {
  const name = h("span", { class: "option-name" }, control.label);
  return h(
    "label",
    { class: "option" },
    name,
    inputs[control.kind](control, value, index, onChange),
  );
}

const inputs = {
  choice(control, value, index, onChange) {
    const choices = control.choices(index);
    // An address may say a value that is not on the list: it is shown and sent as it is.
    const shown = choices.includes(value) ? choices : [...choices, value];
    const entries = shown.map((choice) =>
      h(
        "option",
        { value: choice, selected: choice === value },
        control.named?.(choice) ?? String(choice),
      ),
    );
    const change = (event) => onChange(shown[event.target.selectedIndex]);
    return h("select", { name: control.name, onchange: change }, ...entries);
  },
  number(control, value, index, onChange) {
    const change = (event) =>
      onChange(event.target.value === "" ? undefined : number(event.target.value));
    return h("input", { type: "number", step: "any", name: control.name, value, onchange: change });
  },
  switch(control, value, index, onChange) {
    const change = (event) => onChange(event.target.checked);
    return h("input", {
      type: "checkbox",
      name: control.name,
      checked: value === true,
      onchange: change,
    });
  },
};
