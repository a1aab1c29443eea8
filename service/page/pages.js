/** Pages of one ranking, put together. */

/** An answer with the page that follows it behind its hits.
 *
 * Of an item that was asked about, the later page knows more, unless that is how it stood before. */
export function joined(answer, next) {
  const before = new Map((answer.why_not ?? []).map((one) => [one.id, one]));
  const fates = next.why_not?.map((one) => (one.fate === "earlier" ? before.get(one.id) : one));
  return { ...next, hits: [...answer.hits, ...next.hits], why_not: fates ?? answer.why_not };
}

/** The answer to a search with at least `depth` hits where there are as many: in one page if the
 * server gives so `many` at once, else in as many pages as it takes. */
export async function covering(ask, body, depth, many) {
  let last = await ask(depth > Number(body.k) ? { ...body, k: Math.min(depth, many) } : body);
  let answer = last;
  while (last.hits.length > 0 && answer.hits.length < depth) {
    const offset = answer.hits.length;
    last = await ask({ ...body, offset, k: Math.min(depth - offset, many) });
    answer = joined(answer, last);
  }
  return answer;
}
