/** The server's routes; whatever goes wrong leaves as a `ProblemError`. */

import { isAlike } from "./query.js";

/** A problem document (RFC 9457), the server's own or one made here in the same form. */
export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
  }
}

/** Calls of the server; `key` is a store of the API key, sent where there is one. */
export function createApi(key) {
  async function call(path, options = {}) {
    const headers = new Headers(options.headers);
    const held = key.get();
    if (held) headers.set("X-API-Key", held);
    const response = await reached(() => fetch(address(path), { ...options, headers }));
    if (!response.ok) throw new ProblemError(await problemOf(response));
    return response;
  }

  const json = async (path, options) => {
    const response = await call(path, options);
    return reached(() => response.json());
  };

  return {
    index: (signal) => json("index", { signal }),
    item: (id, signal) => json(`items/${encodeURIComponent(id)}`, { signal }),
    search: (direction, body, signal) =>
      json(`search/${isAlike(direction) ? "similar" : direction}`, {
        method: "POST",
        signal,
        ...encoded(body),
      }),
    blob: async (path, signal) => (await call(path, { signal })).blob(),
  };
}

/** The address of a path on this server, below whatever prefix the page is served from. */
export function address(path) {
  return new URL(path.replace(/^\/+/, ""), document.baseURI).href;
}

function encoded(body) {
  if (!(body.image instanceof Blob)) {
    return { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) {
    form.append(
      name,
      typeof value === "object" && !(value instanceof Blob) ? JSON.stringify(value) : value,
    );
  }
  return { body: form };
}

async function reached(ask) {
  try {
    return await ask();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError({
      title: "The server cannot be reached",
      detail: "No answer came. The server may have stopped, or the network is down.",
      code: "unreachable",
    });
  }
}

async function problemOf(response) {
  const known = {
    title: `The server answered ${response.status}`,
    status: response.status,
    request_id: response.headers.get("X-Request-ID") ?? undefined,
    retry_after: response.headers.get("Retry-After") ?? undefined,
  };
  if (!(response.headers.get("content-type") ?? "").includes("json")) return known;
  try {
    return { ...known, ...(await response.json()) };
  } catch {
    return known; // a proxy's page that calls itself JSON
  }
}
