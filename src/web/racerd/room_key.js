// Rooms that the server cannot read: bodies are sealed under a key that only members have (XChaCha20-Poly1305, by noble).
// It knows bodies and keys, neither rooms' messages nor sockets.
//
// The key of a room is 32 random bytes. What seals is derived from it and the room's id, and what is sealed is bound to
// the room and to the key of its `send`: so a body can neither be moved to another room nor said twice unnoticed. Who
// said it is not sealed: of the members, any may be named by the server.

import { base64url, fromBase64url, isKey, random, text, utf8 } from "./bytes.js";
import { hkdf, sha256, xchacha20poly1305 } from "./noble.js";

const VERSION = "racerd e2e 1";
const NONCE = 24;
const TAG = 16;
/** At least as long as any key of a `send` that racerd.js makes: 16 random bytes, in base64url. */
const K_MAX = 24;
/** So many of what was heard are known again; beyond it the oldest are forgotten. */
const KNOWN = 200_000;

/** Why a body cannot be read; `code` is `wrong_key` or `repeat`. */
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
  /** Each `k` of a message, and the first seq where it was heard: the oldest first. */
  #known = new Map();
  /** Each `k` of a signal. Apart, so that nobody makes a repeat of a message by signalling it. */
  #signalled = new Set();

  /**
   * @param {string} key of the room, 43 characters
   * @param {string} room its id
   */
  constructor(key, room) {
    if (!isKey(key)) throw new RangeError("A room's key is 43 characters of A-Z a-z 0-9 - _.");
    this.#key = hkdf(sha256, fromBase64url(key), undefined, utf8(`${VERSION} ${room}`), 32);
    this.#room = room;
  }

  /**
   * @param {any} body a JSON value
   * @param {string} k the key of its `send`, said once only
   * @param {Uint8Array} [nonce] for tests; else by chance
   * @returns {{e2e: 1, k: string, n: string, c: string}} what is sent
   */
  seal(body, k, nonce = random(NONCE)) {
    const sealed = this.#cipher(nonce, k).encrypt(utf8(JSON.stringify(body ?? null)));
    return { e2e: 1, k, n: base64url(nonce), c: base64url(sealed) };
  }

  /**
   * The body that was sealed; throws an Unreadable of `wrong_key`. Whether it was said before, `hear` tells.
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
   * Opens what was heard at this place. Of two messages with one `k` the later is the repeat, and refused; history is
   * read backwards, so that it may have been handed out already: `repeat` is its seq then.
   * @param {number} [seq] of a message. A signal has none, and is heard once.
   * @returns {{said: any, repeat?: number}}
   */
  hear(sealed, seq) {
    const said = this.open(sealed);
    const { k } = sealed;
    const at = this.#known.get(k);
    if (seq === undefined ? at !== undefined || this.#signalled.has(k) : at < seq) throw new Unreadable("repeat", "it was said before");
    if (seq === undefined) this.#signalled.add(k);
    else this.#known.set(k, seq);
    for (const known of [this.#known, this.#signalled]) if (known.size > KNOWN) known.delete(known.keys().next().value);
    return { said, repeat: at > seq ? at : undefined };
  }

  /** Something as long as this body sealed, with a `k` that is longer than any. */
  blank(body) {
    const length = Math.ceil(((utf8(JSON.stringify(body ?? null)).length + TAG) * 4) / 3);
    return { e2e: 1, k: "x".repeat(K_MAX), n: "x".repeat(32), c: "x".repeat(length) };
  }

  /** Another log: the seqs begin anew, and in a log restored from a backup the same is said again. */
  forget() {
    this.#known.clear();
    this.#signalled.clear();
  }

  #cipher(nonce, k) {
    return xchacha20poly1305(this.#key, nonce, utf8(`${VERSION}\0${this.#room}\0${k}`));
  }
}
