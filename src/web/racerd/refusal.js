// Finds out why the server refuses an upgrade: a browser does not say, but a fetch of the same URL does.

/** Statuses after which asking again is useless. */
const FINAL = [400, 401, 403, 404, 409, 421];

/**
 * Asks the server why it refused an upgrade of this URL. With a pin the answer is only a guess: whoever gives it has not
 * proved to be the server. So it is never final, and its own words are not shown.
 * @returns {Promise<{text: string, isFinal: boolean, pause: number}|null>} the reason in words, and the milliseconds
 *   that the server wants to be left alone; null if it cannot be reached
 */
export async function askWhy(fetch, url, isSealed) {
  let status, problem, pause;
  try {
    // An upgrade names its origin and subprotocol in headers, which a script cannot set; the query replaces them.
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
  // The server would accept the upgrade, so something on the way blocks it.
  if (status === 426) {
    const cause = isSealed ? "either it accepts no sealed connections, or something" : "something";
    const text = `The server can be reached, but ${cause} on the way (a proxy, perhaps) blocks WebSockets.`;
    return { text, isFinal: false, pause: 0 };
  }
  if (isSealed) {
    const guess = status === 400 ? " Perhaps the server has no key for sealed connections." : "";
    return { text: `The server, or something on the way, refuses the connection (${status}).${guess}`, isFinal: false, pause };
  }
  if (problem?.code === "sealed_only") {
    const text = "This server can only be reached by its link with the pin. Ask the person who gave you this address for that link.";
    return { text, isFinal: true, pause };
  }
  const detail = String(problem?.detail ?? `the server answers ${status}`);
  if (FINAL.includes(status)) return { text: `Refused: ${detail}.`, isFinal: true, pause };
  return { text: `Refused for now: ${detail}.`, isFinal: false, pause };
}
