/** Elements made without markup: what a server says can only ever become text. */

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; strings among the children become text, empty ones are left out. */
export function h(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
export function svg(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, tag), attributes, children);
}

/** One drawing of `icons.svg`, hidden from screen readers. */
export function icon(name) {
  const use = svg("use", { href: `page/icons.svg#${name}` });
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, use);
}

/** The element of an id in the page. */
export const byId = (id) => document.getElementById(id);

/** A store of one string that works, if only for this page, where storage is switched off. */
export function stored(storage, name) {
  let held = null;
  return {
    get() {
      try {
        return storage().getItem(name);
      } catch {
        return held;
      }
    },
    set(value) {
      held = value;
      try {
        if (value === null) storage().removeItem(name);
        else storage().setItem(name, value);
      } catch {
        // Full or switched off: the value lasts as long as the page.
      }
    },
  };
}

function furnished(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child ?? false));
  return element;
}
