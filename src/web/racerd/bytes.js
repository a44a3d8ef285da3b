// Converts between bytes and text: UTF-8, and base64url without padding (RFC 4648 §5).

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** A key of 32 bytes: the last of its 43 characters carries four bits; its other two are 0. */
const KEY = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

export function utf8(text) {
  return ENCODER.encode(text);
}

/** Decodes UTF-8; throws if it is invalid. */
export function text(bytes) {
  return DECODER.decode(bytes);
}

export function base64url(bytes) {
  let binary = "";
  // In pieces: the number of arguments is limited.
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Decodes base64url; throws if it is invalid, padded or not canonical. */
export function fromBase64url(written) {
  const bytes = Uint8Array.from(atob(written.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  if (base64url(bytes) !== written) throw new SyntaxError("not base64url");
  return bytes;
}

/** Returns random bytes. Pages served over plain http have crypto.getRandomValues, too. */
export function random(length) {
  return crypto.getRandomValues(new Uint8Array(length));
}

/** Makes a new room key, as it stands in the room's link. */
export function newKey() {
  return base64url(random(32));
}

/** Is this the text of a room's or a server's key: 32 bytes? */
export function isKey(written) {
  return typeof written === "string" && KEY.test(written);
}

export function concat(parts) {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Returns random hexadecimal text, two characters for each byte. */
export function randomText(bytes) {
  return Array.from(random(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
