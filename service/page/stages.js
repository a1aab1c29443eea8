/** Milliseconds of every stage: a bar and its words. */

import { h } from "./dom.js";

const TOTAL = "total";

/** The bar and the list of a search's stages. */
export function timesOf(milliseconds) {
  const stages = Object.entries(milliseconds).filter(
    ([name, spent]) => name !== TOTAL && spent > 0,
  );
  const sum = stages.reduce((total, [, spent]) => total + spent, 0) || 1;
  const bar = h("span", { class: "times-bar", "aria-hidden": "true" });
  for (const [name, spent] of stages) {
    const part = h("span", { class: "times-part", "data-stage": name });
    part.style.flexGrow = String(spent / sum);
    bar.append(part);
  }
  const list = stages.map(([name, spent]) =>
    h("li", { "data-stage": name }, h("span", { class: "times-name" }, name), ` ${shown(spent)}`),
  );
  return [bar, h("ul", { class: "times-list", "aria-label": "Milliseconds by stage" }, ...list)];
}

/** Milliseconds with as many digits as matter. */
export function shown(milliseconds) {
  return milliseconds < 1
    ? milliseconds.toFixed(2)
    : milliseconds < 100
      ? milliseconds.toFixed(1)
      : milliseconds.toFixed(0);
}
