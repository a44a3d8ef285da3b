// Seals and opens the bodies of a room that the server cannot read, under a key that only members have
// (XChaCha20-Poly1305 and Ed25519, by noble). It knows bodies and keys, neither messages nor sockets.
//
// A room's key is 32 random bytes; the cipher's keys are derived from it and the room's id. docs/protocol.md has the
// format byte by byte: what a body is bound to, what is in it, and how it is signed. Version 1 is only read.

import { base64url, concat, fromBase64url, isKey, random, text, utf8 } from "./bytes.js";
import { ed25519, hkdf, sha256, xchacha20poly1305 } from "./noble.js";

const VERSION = "racerd e2e 2";
const FIRST = "racerd e2e 1";
const NONCE = 24;
const TAG = 16;
const ID = 16;
/** Bytes before the name: the signature, then stream, counter and date. */
const SIGNATURE = 64;
const STREAM = 32;
const HEAD = SIGNATURE + STREAM + 16;
/** Name and body together are padded to this length at least. */
const SHORTEST = 64;
const LARGEST = 2 ** 53;
/** At least the length of any key that racerd.js makes for a `send`: 16 random bytes in base64url. */
const K_MAX = 24;
/** Characters of 16 and of 24 bytes. */
const [ID_CHARS, NONCE_CHARS] = [22, 32];

/** Why a body cannot be read; `code` is "wrong_key" (version 1), "other_key", "altered", "malformed" or "forged". */
export class Unreadable extends Error {
  constructor(code, message) {
    super(message);
    this.name = "Unreadable";
    this.code = code;
  }
}

/** One run of a client: its id is the public key that the bodies are signed for, and a counter numbers them. */
export class Stream {
  #secret;
  counter = 0;

  constructor(seed = random(32)) {
    this.#secret = seed;
    this.id = ed25519.getPublicKey(seed);
  }

  sign(bytes) {
    return ed25519.sign(bytes, this.#secret);
  }
}

/** Seals and opens the bodies of one room. */
export class RoomCipher {
  #key;
  #firstKey;
  #id;
  #room;
  /** Each kind has a stream of its own, so that what is left out of one leaves no hole in another. */
  #streams = new Map();

  /**
   * @param {string} key of the room, 43 characters
   * @param {string} room its id
   */
  constructor(key, room) {
    if (!isKey(key)) throw new RangeError("A room key is 43 of the characters A-Z a-z 0-9 - _.");
    const derived = (purpose, length) => hkdf(sha256, fromBase64url(key), undefined, utf8(`${purpose} ${room}`), length);
    this.#key = derived(`${VERSION} key`, 32);
    this.#id = derived(`${VERSION} id`, ID);
    this.#firstKey = derived(FIRST, 32);
    this.#room = room;
  }

  /**
   * Seals a body.
   * @param {any} body a JSON value
   * @param {string} k the key of its `send`, used once only
   * @param {object} about
   * @param {"message"|"signal"|"draft"} about.kind it opens as no other; a draft never leaves the browser
   * @param {string} [about.name] of its author
   * @param {number} [about.sent] the author's date; this and the following are for tests
   * @param {Uint8Array} [about.nonce]
   * @param {Stream} [about.stream]
   * @returns {{e2e: 2, i: string, k: string, n: string, c: string}} the body to send
   */
  seal(body, k, { kind, name = "", sent = Date.now(), nonce = random(NONCE), stream = this.#stream(kind) }) {
    stream.counter += 1;
    const associated = this.#associated(kind, k);
    const rest = concat([stream.id, number(stream.counter, 8), number(sent, 8), content(name, body)]);
    const plain = concat([stream.sign(concat([associated, rest])), rest]);
    const sealed = xchacha20poly1305(this.#key, nonce, associated).encrypt(plain);
    return { e2e: 2, i: base64url(this.#id), k, n: base64url(nonce), c: base64url(sealed) };
  }

  /**
   * Opens a sealed body; throws an Unreadable. It does not detect repeats: heard.js does.
   * @param {{e2e: number, i?: string, k: string, n: string, c: string}} sealed
   * @param {"message"|"signal"|"draft"} kind
   * @returns {{body: any, name?: string, sent?: number, stream?: string, counter?: number, fingerprint?: string}}
   *   of version 1, only the body. `fingerprint` is equal for equal content only
   */
  open(sealed, kind) {
    return sealed.e2e === 1 ? this.#openFirst(sealed) : this.#open(sealed, kind);
  }

  #open({ i, k, n, c }, kind) {
    if (i !== base64url(this.#id)) throw new Unreadable("other_key", "it is sealed with another key");
    const associated = this.#associated(kind, k);
    const plain = attempt("altered", "it was altered on its way", () =>
      xchacha20poly1305(this.#key, fromBase64url(n), associated).decrypt(fromBase64url(c)));
    const opened = attempt("malformed", "what is inside has not the form of a message", () => parse(plain));
    const [signature, rest] = [plain.subarray(0, SIGNATURE), plain.subarray(SIGNATURE)];
    attempt("forged", "its signature is another's", () => {
      // By the rules of RFC 8032: keys that fit to every signature are refused.
      if (!ed25519.verify(signature, concat([associated, rest]), rest.subarray(0, STREAM), { zip215: false })) throw new RangeError();
    });
    return { ...opened, fingerprint: base64url(sha256(plain).subarray(0, 16)) };
  }

  #openFirst({ k, n, c }) {
    return attempt("wrong_key", "it can't be read with this key", () => {
      const cipher = xchacha20poly1305(this.#firstKey, fromBase64url(n), utf8(`${FIRST}\0${this.#room}\0${k}`));
      return { body: JSON.parse(text(cipher.decrypt(fromBase64url(c)))) };
    });
  }

  /** Returns a placeholder as long as this body sealed, with a `k` of maximum length. */
  blank(body, name = "") {
    const length = Math.ceil(((HEAD + content(name, body).length + TAG) * 4) / 3);
    return { e2e: 2, i: "x".repeat(ID_CHARS), k: "x".repeat(K_MAX), n: "x".repeat(NONCE_CHARS), c: "x".repeat(length) };
  }

  #stream(kind) {
    if (!this.#streams.has(kind)) this.#streams.set(kind, new Stream());
    return this.#streams.get(kind);
  }

  /** Returns what a body is bound to. The last field is the key of the message that is changed; these kinds have none. */
  #associated(kind, k) {
    const fields = [utf8(VERSION), utf8(kind), utf8(this.#room), this.#id, utf8(k), new Uint8Array(0)];
    return concat(fields.flatMap((field) => [number(field.length, 2), field]));
  }
}

function attempt(code, message, work) {
  try {
    return work();
  } catch {
    throw new Unreadable(code, message);
  }
}

/** Returns a number's bytes, the most significant first. */
function number(value, bytes) {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value));
  return new Uint8Array(view.buffer, 8 - bytes);
}

/** Returns name and body, each with its length, padded with zeros. */
function content(name, body) {
  const [named, said] = [utf8(name), utf8(JSON.stringify(body ?? null))];
  const parts = [number(named.length, 1), named, number(said.length, 4), said];
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return concat([...parts, new Uint8Array(padded(length) - length)]);
}

/**
 * Returns the length to which name and body are padded: Padmé (Nikitin et al., PETS 2019), which adds at most 12 %, and
 * at least SHORTEST.
 */
export function padded(length) {
  if (length <= SHORTEST) return SHORTEST;
  const exponent = 31 - Math.clz32(length);
  const unit = 2 ** (exponent - (31 - Math.clz32(exponent)) - 1);
  return Math.ceil(length / unit) * unit;
}

/** Splits a plaintext into its parts; throws if they are not as `seal` writes them. */
function parse(plain) {
  const view = new DataView(plain.buffer, plain.byteOffset, plain.byteLength);
  // Compared before they are rounded.
  const [counter, sent] = [SIGNATURE + STREAM, SIGNATURE + STREAM + 8].map((at) => view.getBigUint64(at));
  const bodyAt = HEAD + 1 + view.getUint8(HEAD) + 4;
  const end = bodyAt + view.getUint32(bodyAt - 4);
  const fits = counter >= 1n && counter <= LARGEST && sent <= LARGEST && end <= plain.length
    && plain.length === HEAD + padded(end - HEAD) && plain.subarray(end).every((byte) => byte === 0);
  if (!fits) throw new RangeError("not a plaintext");
  return {
    body: JSON.parse(text(plain.subarray(bodyAt, end))),
    name: text(plain.subarray(HEAD + 1, bodyAt - 4)),
    sent: Number(sent),
    stream: base64url(plain.subarray(SIGNATURE, SIGNATURE + STREAM)),
    counter: Number(counter),
  };
}
