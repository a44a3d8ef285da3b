/** The URL below which a server's rooms lie, ending in `/`; also from a room's own URL. Throws RangeError where it says more. */
export function baseOf(given) {
  const url = URL.canParse(given) ? new URL(given) : null;
  if (!/^https?:$/.test(url?.protocol)) throw new RangeError(`This is no URL of a server (http:, https:): ${given}`);
  if (url.hash || url.search) throw new RangeError("A server's URL has no ? or #: give `pin` to connect(), `roomKey` to join().");
  url.pathname = url.pathname.replace(/(\/rooms\/[^/]+)?\/?$/, "/");
  return url.href;
}
