// Where a server is, from what a program gives for it.

/**
 * The URL below which a server's rooms lie. A room's own URL, as a browser shows it, is taken, too, and a path without its
 * last `/`.
 * @param {string} given `https://chat.example/`, with a path where a proxy has one
 * @returns {string} it ends in `/`
 * @throws {RangeError} where it is no such URL, or says more: a pin or a key in it would be lost without a word
 */
export function baseOf(given) {
  let url;
  try {
    url = new URL(given);
  } catch {
    throw new RangeError(`This is no URL of a server: ${given}`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new RangeError("A server's URL begins with http: or https:.");
  if (url.hash || url.search) {
    throw new RangeError("A server's URL has no ? and no #. What a link says behind its # are options: `pin` of connect(), `roomKey` of join().");
  }
  url.pathname = url.pathname.replace(/\/rooms\/[^/]+\/?$/, "/").replace(/\/?$/, "/");
  return url.href;
}
