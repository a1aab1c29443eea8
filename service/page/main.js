/** The page: the address says what is asked, and everything shown follows from it. */

import { createAccess, keyStore } from "./access.js";
import { createApi, ProblemError } from "./api.js";
import { createAsk } from "./ask.js";
import { createDetail } from "./detail.js";
import { byId, h, stored } from "./dom.js";
import { createHits } from "./hits.js";
import { createInspector } from "./inspector.js";
import { listen } from "./keys.js";
import { createOptions } from "./options.js";
import { covering, joined } from "./pages.js";
import { createPast } from "./past.js";
import { createPictures } from "./pictures.js";
import { problemPanel } from "./problems.js";
import {
  bodyOf,
  directionOf,
  findsImages,
  followUps,
  isAlike,
  named,
  readQuery,
  writeQuery,
} from "./query.js";
import { shown, timesOf } from "./stages.js";

const SLOW_MS = 4000;
const WAIT_SHOWN_MS = 150;

const key = keyStore();
const api = createApi(key);
const pictures = createPictures(api, key);
const access = createAccess(key, () => (parts ? follow() : open()));
let parts = null;
let running = null;

watchTheme();
open();

/** Read the index, then whatever the address asks. */
async function open() {
  say("");
  let index;
  try {
    index = await api.index();
  } catch (error) {
    return refuse(error.problem ?? { title: "The page failed", detail: String(error) }, open);
  }
  byId("problem").replaceChildren();
  parts = assembled(index);
  follow();
  if (!parts.query && matchMedia("(hover: hover)").matches) byId("text").focus();
}

function assembled(index) {
  const hits = createHits(byId("hits"), index, pictures, {
    open: (hit) => detail.open(parts.answer, hit, findsImages(parts.answer.direction)),
    ask: go,
  });
  const detail = createDetail(byId("detail"), index, api, pictures, go);
  const past = createPast({
    dialog: byId("history"),
    opener: byId("open-history"),
    recent: byId("recent"),
    ask: go,
  });
  const ask = createAsk(index, pictures, { ask: go, refuse: refuseFile });
  const options = createOptions(
    byId("options"),
    index,
    () => parts.query && go(parts.query, { replace: true }),
  );
  const inspector = createInspector(byId("inspector"), (ids) =>
    go(parts.query, { replace: true, why: ids, depth: shownHits() }),
  );
  listen({ text: byId("text"), hits: byId("hits"), focusBox: ask.focus, cancel });
  byId("inspect").addEventListener("click", () =>
    go(parts.query, { replace: true, inspect: !inspects(), depth: shownHits() }),
  );
  byId("cancel").addEventListener("click", cancel);
  byId("further").addEventListener("click", further);
  addEventListener("popstate", () => follow());
  showGallery(index);
  return { index, hits, detail, past, ask, options, inspector, query: null, answer: null };
}

/** Put a query into the address, then do what the address says, with at least `depth` hits. */
function go(
  query,
  { replace = false, inspect = inspects(), why = replace ? whys() : [], depth = 0 } = {},
) {
  const parameters = new URLSearchParams();
  const state = writeQuery(query, parameters);
  parts.options.write(parameters);
  if (inspect) parameters.set("inspect", "1");
  for (const id of inspect ? why : []) parameters.append("why", id);
  const url = `${location.pathname}?${parameters}`;
  const same = url === location.pathname + location.search && state === null;
  history[replace || same ? "replaceState" : "pushState"](state, "", url);
  follow(depth);
}

/** Show and run what the address says. */
function follow(depth = 0) {
  const parameters = new URLSearchParams(location.search);
  const query = readQuery(parameters, history.state);
  running?.abort();
  running = null;
  parts.query = query;
  parts.options.read(parameters);
  parts.ask.show(query);
  parts.detail.close();
  const fromHits = byId("hits").contains(document.activeElement);
  document.body.dataset.view = query ? "results" : "home";
  document.title = query ? `${named(query)} – MEET` : "MEET";
  byId("problem").replaceChildren();
  if (query) return run(query, fromHits, depth); // what was found before stays, dimmed, until the answer comes
  clear();
  const lost = history.state?.upload !== undefined;
  say(
    lost ? "That search was by a picture, which this page no longer holds: choose it again." : "",
  );
}

/** Ask the server; a search that starts ends the one before it. */
async function run(query, fromHits, depth) {
  const controller = new AbortController();
  running = controller;
  const direction = directionOf(query);
  const body = bodyFor(query);
  const timers = announceWait(direction, Math.max(body.k, depth));
  const ask = (page) => api.search(direction, page, controller.signal);
  try {
    const answer = await covering(ask, body, depth, parts.index.limits.max_k);
    if (running === controller) show(query, answer);
    if (fromHits && document.activeElement === document.body) parts.hits.focus();
  } catch (error) {
    if (running === controller && error.name !== "AbortError") failed(error);
  } finally {
    timers.forEach(clearTimeout);
    if (running === controller) finished();
  }
}

/** All that a search says: the query, the options, and what the inspector wants to know. */
function bodyFor(query) {
  const inspected = whys().length ? { explain: true, why_not: whys() } : { explain: true };
  return {
    ...bodyOf(query),
    ...parts.options.fields({ alike: isAlike(directionOf(query)) }),
    ...(inspects() && inspected),
  };
}

/** Show the next page of hits below those that are there. */
async function further() {
  const { query, answer } = parts;
  const controller = new AbortController();
  running = controller;
  document.body.setAttribute("aria-busy", "true");
  try {
    const body = { ...bodyFor(query), offset: answer.hits.length };
    const next = await api.search(directionOf(query), body, controller.signal);
    if (running === controller) append(query, next);
  } catch (error) {
    if (running === controller && error.name !== "AbortError") stopAt(error);
  } finally {
    if (running === controller) finished();
  }
}

function append(query, next) {
  parts.answer = joined(parts.answer, next);
  parts.hits.append(next, next.hits);
  if (inspects()) parts.inspector.show(parts.answer);
  offerFurther(next.hits.length > 0);
  report(query, parts.answer);
}

/** Say why there are no further hits, and keep those that are there. */
function stopAt(error) {
  if (!(error instanceof ProblemError)) throw error;
  byId("further").hidden = true;
  const [broken] = error.problem.errors ?? [];
  say(broken ? `${broken.field}: ${broken.rule}` : (error.problem.detail ?? error.problem.title));
}

/** Offer the next page where the index has pages and the last one was full. */
function offerFurther(any) {
  const full = any && shownHits() % Number(parts.options.fields().k) === 0;
  byId("further").hidden = !(parts.index.options ?? []).includes("offset") || !full;
}

/** How many hits are on the page. */
const shownHits = () => parts.answer?.hits.length ?? 0;

function announceWait(direction, k) {
  document.body.setAttribute("aria-busy", "true");
  const waiting = () => {
    say("Searching…");
    byId("cancel").hidden = false;
    parts.hits.wait(direction, k);
  };
  const slow = () => say("Still searching: the server takes longer than usual.");
  return [setTimeout(waiting, WAIT_SHOWN_MS), setTimeout(slow, SLOW_MS)];
}

function finished() {
  running = null;
  document.body.removeAttribute("aria-busy");
  byId("cancel").hidden = true;
}

/** End the search under way; false where there is none. */
function cancel() {
  if (!running) return false;
  running.abort();
  finished();
  parts.hits.clear();
  byId("further").hidden = true;
  say("Cancelled.");
  return true;
}

function show(query, answer) {
  parts.answer = answer;
  parts.past.add(query);
  parts.hits.show(answer);
  byId("times").replaceChildren(...timesOf(answer.milliseconds));
  byId("inspect").hidden = answer.hits.length === 0;
  byId("inspect").setAttribute("aria-pressed", String(inspects()));
  if (inspects()) parts.inspector.show(answer);
  else parts.inspector.hide();
  showAsked(query);
  showNotices(answer.notices);
  offerFurther(answer.hits.length > 0);
  report(query, answer);
}

function report(query, answer) {
  // The box shows the query already to those who see it.
  const asked = h("span", { class: "unseen" }, ` for ${named(query)}`);
  say(counted(answer), asked, ` in ${shown(answer.milliseconds.total)} ms`);
}

function showAsked(query) {
  const picture = parts.ask.picture(query);
  byId("asked").hidden = picture === null;
  byId("asked").replaceChildren(...(picture ? [picture] : []));
  byId("ways").replaceChildren(...otherWays(query));
}

/** What of the search meant nothing to the server. */
function showNotices(notices = []) {
  byId("notices").replaceChildren(...notices.map((one) => h("p", { class: "note" }, sentence(one))));
}

const sentence = (words) =>
  `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;

/** What else can be asked about the item that was searched with. */
function otherWays(query) {
  if (query.kind !== "item") return [];
  const item = { id: query.id, modality: query.direction.split("-to-")[0] };
  return followUps(parts.index, item)
    .filter((other) => other.query.direction !== query.direction)
    .map(({ label, query: next }) =>
      h("button", { type: "button", class: "chip", onclick: () => go(next) }, label),
    );
}

function counted({ direction, hits }) {
  const one = findsImages(direction) ? "picture" : "caption";
  if (hits.length === 0) return `No ${one}s`;
  return `${hits.length} ${hits.length === 1 ? one : `${one}s`}`;
}

function failed(error) {
  if (!(error instanceof ProblemError)) throw error;
  refuse(error.problem, () => follow());
}

/** Show a problem in place of an answer; a missing key is asked for. */
function refuse(problem, retry) {
  clear();
  say("");
  document.body.dataset.view = "results";
  byId("problem").replaceChildren(problemPanel(problem, retry));
  if (problem.status === 401) access.ask();
}

/** Show why a file was not searched with; a search under way would cover it. */
function refuseFile(problem) {
  cancel();
  refuse(problem);
}

function clear() {
  byId("problem").replaceChildren();
  byId("times").replaceChildren();
  byId("inspect").hidden = true;
  byId("asked").hidden = true;
  byId("asked").replaceChildren();
  byId("ways").replaceChildren();
  byId("further").hidden = true;
  showNotices();
  parts?.hits.clear();
  parts?.inspector.hide();
  if (parts) parts.answer = null;
}

function say(...words) {
  byId("status").replaceChildren(...words);
}

function inspects() {
  return new URLSearchParams(location.search).get("inspect") === "1";
}

/** Ids that the address asks the fates of. */
const whys = () => new URLSearchParams(location.search).getAll("why");

function showGallery({ counts, version }) {
  const number = new Intl.NumberFormat("en");
  const sides = [
    ["image", "pictures"],
    ["text", "captions"],
  ].filter(([side]) => counts[side]);
  byId("gallery").textContent = sides
    .map(([side, name]) => `${number.format(counts[side])} ${name}`)
    .join(" · ");
  byId("gallery").title = `index ${version}`;
}

function watchTheme() {
  const chosen = stored(() => localStorage, "meet.theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () =>
    (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => byId("dark").setAttribute("aria-pressed", String(isDark()));
  byId("dark").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    chosen.set(document.documentElement.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}
