// The initiator of Noise_NK_25519_ChaChaPoly_SHA256 (The Noise Protocol Framework, revision 34): one who knows the
// server's static key proves nothing of himself, and talks to that server only. The primitives are noble's. It knows
// bytes, and nothing of what they carry.

import { concat, random, utf8 } from "./bytes.js";
import { chacha20poly1305, hkdf, sha256, x25519 } from "./noble.js";

/** As long as a hash, so it is the first one itself (§5.2). */
const NAME = utf8("Noise_NK_25519_ChaChaPoly_SHA256");
const KEY = 32;
const EMPTY = new Uint8Array(0);
/** REKEY after so many messages of a direction: racerd's rule, within what §11.3 leaves open. */
export const REKEY_EVERY = 65_536;
/** Most bytes of a message (§3), of which the tag takes some. */
export const MESSAGE_MAX = 65_535;
export const TAG = 16;

/** A key and its count of messages (§5.1). Nothing changes where a message does not open. */
export class CipherState {
  #key;
  #n = 0;
  #every;

  /** @param {number} [every] REKEY after so many messages */
  constructor(key, every = Infinity) {
    this.#key = key;
    this.#every = every;
  }

  encrypt(plaintext, ad = EMPTY) {
    const sealed = chacha20poly1305(this.#key, nonce(this.#n), ad).encrypt(plaintext);
    this.#count();
    return sealed;
  }

  /** Throws where it does not open. */
  decrypt(sealed, ad = EMPTY) {
    const plaintext = chacha20poly1305(this.#key, nonce(this.#n), ad).decrypt(sealed);
    this.#count();
    return plaintext;
  }

  #count() {
    this.#n += 1;
    // §4.2: what zeros become under the last nonce of all. The count goes on (§5.1).
    if (this.#n % this.#every === 0) {
      this.#key = chacha20poly1305(this.#key, LAST_NONCE, EMPTY).encrypt(new Uint8Array(KEY)).subarray(0, KEY);
    }
  }
}

const LAST_NONCE = new Uint8Array(12).fill(0xff, 4);

/** 32 bits of zeros and the count, little-endian (§12.3). JavaScript counts to 2^53, which no connection reaches. */
function nonce(n) {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, n % 2 ** 32, true);
  view.setUint32(8, Math.floor(n / 2 ** 32), true);
  return bytes;
}

/** `-> e, es` and `<- e, ee`: `write` once, then `read` once. */
export class Handshake {
  #server;
  #secret;
  #chain = NAME;
  #hash = NAME;

  /**
   * @param {Uint8Array} server its static public key
   * @param {Uint8Array} prologue
   * @param {Uint8Array} [secret] the ephemeral private key, for tests; else by chance
   */
  constructor(server, prologue, secret = random(KEY)) {
    this.#server = server;
    this.#secret = secret;
    this.#mixHash(prologue);
    this.#mixHash(server);
  }

  /** The message to the server. Throws where its key is none (all shared secrets would be zero). */
  write(payload = EMPTY) {
    const e = x25519.getPublicKey(this.#secret);
    this.#mixHash(e);
    const cipher = this.#mixKey(x25519.getSharedSecret(this.#secret, this.#server));
    const sealed = cipher.encrypt(payload, this.#hash);
    this.#mixHash(sealed);
    return concat([e, sealed]);
  }

  /**
   * The server's answer. Throws where it is not that server's, who alone could read what `write` gave.
   * @returns {{payload: Uint8Array, sending: CipherState, receiving: CipherState}}
   */
  read(message) {
    const e = message.subarray(0, KEY);
    this.#mixHash(e);
    const cipher = this.#mixKey(x25519.getSharedSecret(this.#secret, e));
    const payload = cipher.decrypt(message.subarray(KEY), this.#hash);
    const [sending, receiving] = halves(hkdf(sha256, EMPTY, this.#chain, EMPTY, 2 * KEY));
    this.#secret = null;
    return { payload, sending: new CipherState(sending, REKEY_EVERY), receiving: new CipherState(receiving, REKEY_EVERY) };
  }

  #mixHash(bytes) {
    this.#hash = sha256(concat([this.#hash, bytes]));
  }

  /** Noise's HKDF (§4.3) is that of RFC 5869 with the chaining key as salt and no info. */
  #mixKey(secret) {
    const [chain, key] = halves(hkdf(sha256, secret, this.#chain, EMPTY, 2 * KEY));
    this.#chain = chain;
    return new CipherState(key);
  }
}

function halves(bytes) {
  return [bytes.slice(0, KEY), bytes.slice(KEY)];
}
