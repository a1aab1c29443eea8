/** Problems, shown so that a person can read them and report them. */

import { h } from "./dom.js";

/** The panel of a problem document, with a button that asks again where there is one. */
export function problemPanel(problem, retry) {
  const rules = (problem.errors ?? []).map(({ field, rule, value }) =>
    h("li", {}, h("code", {}, field), `: ${lowered(rule)}, got `, h("code", {}, value)),
  );
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h2", {}, problem.title),
    rules.length ? h("ul", {}, ...rules) : h("p", {}, problem.detail ?? ""),
    problem.retry_after && h("p", {}, `Try again in ${problem.retry_after} s.`),
    h(
      "p",
      { class: "problem-foot" },
      retry && h("button", { type: "button", class: "quiet", onclick: retry }, "Try again"),
      ...request(problem),
    ),
  );
}

const lowered = (rule) => rule.charAt(0).toLowerCase() + rule.slice(1);

function request({ request_id: id, code, status }) {
  const kind = [status, code].filter(Boolean).join(" ");
  return [
    kind && h("span", { class: "problem-code" }, kind),
    id && h("span", { class: "problem-id" }, "request ", h("code", {}, id)),
  ];
}
