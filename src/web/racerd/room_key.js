// Seals and opens the bodies of a room that the server cannot read, under a key that only members have
// (XChaCha20-Poly1305, by noble). It knows bodies and keys, neither messages nor sockets.
//
// A room's key is 32 random bytes. The cipher's key is derived from it and the room's id, and each body is bound to the
// room and to the key of its `send`: so a body can neither be moved to another room nor repeated unnoticed. The author
// is not sealed: the server could name any other member as the author.

import { base64url, fromBase64url, isKey, random, text, utf8 } from "./bytes.js";
import { hkdf, sha256, xchacha20poly1305 } from "./noble.js";

const VERSION = "racerd e2e 1";
const NONCE = 24;
const TAG = 16;
/** At least the length of any key that racerd.js makes for a `send`: 16 random bytes in base64url. */
const K_MAX = 24;
/** The number of keys that are remembered, to detect repeats; beyond it the oldest are forgotten. */
const KNOWN = 200_000;

/** Tells why a body cannot be read; `code` is `wrong_key` or `repeat`. */
export class Unreadable extends Error {
  constructor(code, message) {
    super(message);
    this.name = "Unreadable";
    this.code = code;
  }
}

/** Seals and opens the bodies of one room. */
export class RoomCipher {
  #key;
  #room;
  /** Each `k` of a message with the lowest seq at which it was seen, the oldest entry first. */
  #known = new Map();
  /**
   * Each `k` of a signal. Kept apart: a signal with a copied body must not make the original message look like a
   * repeat.
   */
  #signalled = new Set();

  /**
   * @param {string} key of the room, 43 characters
   * @param {string} room its id
   */
  constructor(key, room) {
    if (!isKey(key)) throw new RangeError("A room key is 43 of the characters A-Z a-z 0-9 - _.");
    this.#key = hkdf(sha256, fromBase64url(key), undefined, utf8(`${VERSION} ${room}`), 32);
    this.#room = room;
  }

  /**
   * Seals a body.
   * @param {any} body a JSON value
   * @param {string} k the key of its `send`, used once only
   * @param {Uint8Array} [nonce] for tests; random otherwise
   * @returns {{e2e: 1, k: string, n: string, c: string}} the body to send
   */
  seal(body, k, nonce = random(NONCE)) {
    const sealed = this.#cipher(nonce, k).encrypt(utf8(JSON.stringify(body ?? null)));
    return { e2e: 1, k, n: base64url(nonce), c: base64url(sealed) };
  }

  /**
   * Opens a sealed body; throws an Unreadable with `wrong_key`. It does not detect repeats: `hear` does.
   * @param {{k: string, n: string, c: string}} sealed
   */
  open({ k, n, c }) {
    try {
      return JSON.parse(text(this.#cipher(fromBase64url(n), k).decrypt(fromBase64url(c))));
    } catch {
      throw new Unreadable("wrong_key", "it can't be read with this key");
    }
  }

  /**
   * Opens a received body, and refuses a repeat: of two messages with one `k`, the later. History is read backwards, so
   * the later one may have been accepted already: then `repeat` is its seq.
   * @param {number} [seq] of a message. A signal has none; its `k` is accepted once.
   * @returns {{said: any, repeat?: number}}
   */
  hear(sealed, seq) {
    const said = this.open(sealed);
    const { k } = sealed;
    const at = this.#known.get(k);
    if (seq === undefined ? at !== undefined || this.#signalled.has(k) : at < seq) throw new Unreadable("repeat", "it repeats an earlier message");
    if (seq === undefined) this.#signalled.add(k);
    else this.#known.set(k, seq);
    for (const known of [this.#known, this.#signalled]) if (known.size > KNOWN) known.delete(known.keys().next().value);
    return { said, repeat: at > seq ? at : undefined };
  }

  /** Returns a placeholder as long as this body sealed, with a `k` of maximum length. */
  blank(body) {
    const length = Math.ceil(((utf8(JSON.stringify(body ?? null)).length + TAG) * 4) / 3);
    return { e2e: 1, k: "x".repeat(K_MAX), n: "x".repeat(32), c: "x".repeat(length) };
  }

  /**
   * Forgets all keys: in a new log the seqs begin anew, and one restored from a backup repeats messages legitimately.
   */
  forget() {
    this.#known.clear();
    this.#signalled.clear();
  }

  #cipher(nonce, k) {
    return xchacha20poly1305(this.#key, nonce, utf8(`${VERSION}\0${this.#room}\0${k}`));
  }
}
