// Why an upgrade is refused: a browser does not say, but the same URL fetched does.

/** Answers after which nothing is to be had by asking again. */
const FINAL = [400, 401, 403, 404, 421];

/**
 * @param {typeof fetch} fetch
 * @param {string} url
 * @param {boolean} isSealed the upgrade was to a sealed socket
 * @returns {Promise<{text: string, isFinal: boolean, pause: number}|null>} in words; the milliseconds that the server
 *   wants to be left alone; null if nobody is there, which is known
 */
export async function askWhy(fetch, url, isSealed) {
  let status, problem, pause;
  try {
    // A script cannot set the headers in which an upgrade names its page's origin and the subprotocol.
    const asked = new URL(url);
    if (isSealed) asked.searchParams.set("subprotocol", "racerd.v1.sealed");
    if (globalThis.origin) asked.searchParams.set("origin", globalThis.origin);
    const answer = await fetch(asked.href, { cache: "no-store" });
    status = answer.status;
    problem = await answer.json().catch(() => ({}));
    pause = 1000 * Number(answer.headers.get("Retry-After")) || 0;
  } catch {
    return null;
  }
  // The server would take an upgrade, but none gets through.
  if (status === 426) {
    const who = isSealed ? "either it takes no sealed connections, or something" : "something";
    return { text: `The server is there, but ${who} on the way, a proxy perhaps, lets no WebSocket through.`, isFinal: false, pause: 0 };
  }
  if (problem?.code === "sealed_only") {
    const text = "This server is only reached by its link with the pin: ask whoever gave you this address for that link.";
    return { text, isFinal: true, pause };
  }
  const detail = String(problem?.detail ?? `the server answers ${status}`);
  if (FINAL.includes(status)) return { text: `Refused: ${detail}.`, isFinal: true, pause };
  return { text: `Refused for now: ${detail}.`, isFinal: false, pause };
}
