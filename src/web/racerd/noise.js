// The initiator of Noise_NK_25519_ChaChaPoly_SHA256 (The Noise Protocol Framework, revision 34): it knows the server's
// static key, does not authenticate itself, and can be read by that server only. The primitives are noble's. It handles
// bytes, whatever they carry.

import { concat, random, utf8 } from "./bytes.js";
import { chacha20poly1305, hkdf, sha256, x25519 } from "./noble.js";

/** The protocol name; it has the length of a hash, so it is the initial hash itself (§5.2). */
const NAME = utf8("Noise_NK_25519_ChaChaPoly_SHA256");
const KEY = 32;
const EMPTY = new Uint8Array(0);
/** REKEY after this many messages in one direction: racerd's rule, which §11.3 leaves to the application. */
export const REKEY_EVERY = 65_536;
/** The most bytes of a message (§3), including the tag. */
export const MESSAGE_MAX = 65_535;
export const TAG = 16;

/** A key and its message counter (§5.1). A message that does not open changes nothing. */
export class CipherState {
  #key;
  #n = 0;
  #every;

  /** @param {number} [every] REKEY after this many messages */
  constructor(key, every = Infinity) {
    this.#key = key;
    this.#every = every;
  }

  encrypt(plaintext, ad = EMPTY) {
    const sealed = chacha20poly1305(this.#key, nonce(this.#n), ad).encrypt(plaintext);
    this.#count();
    return sealed;
  }

  /** Throws if the message does not open. */
  decrypt(sealed, ad = EMPTY) {
    const plaintext = chacha20poly1305(this.#key, nonce(this.#n), ad).decrypt(sealed);
    this.#count();
    return plaintext;
  }

  #count() {
    this.#n += 1;
    // §4.2: the new key is the encryption of zeros under the last nonce. The counter continues (§5.1).
    if (this.#n % this.#every === 0) {
      this.#key = chacha20poly1305(this.#key, LAST_NONCE, EMPTY).encrypt(new Uint8Array(KEY)).subarray(0, KEY);
    }
  }
}

const LAST_NONCE = new Uint8Array(12).fill(0xff, 4);

/**
 * Returns 32 bits of zeros and the counter, little-endian (§12.3). JavaScript counts to 2^53, which no connection
 * reaches.
 */
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
   * @param {Uint8Array} [secret] the ephemeral private key, for tests; random otherwise
   */
  constructor(server, prologue, secret = random(KEY)) {
    this.#server = server;
    this.#secret = secret;
    this.#mixHash(prologue);
    this.#mixHash(server);
  }

  /** Returns the message to the server. Throws if the server's key is invalid (all shared secrets would be zero). */
  write(payload = EMPTY) {
    const e = x25519.getPublicKey(this.#secret);
    this.#mixHash(e);
    const cipher = this.#mixKey(x25519.getSharedSecret(this.#secret, this.#server));
    const sealed = cipher.encrypt(payload, this.#hash);
    this.#mixHash(sealed);
    return concat([e, sealed]);
  }

  /**
   * Reads the server's answer. Throws if it is not from the server with that key, which alone can read `write`'s
   * message.
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

  /** Noise's HKDF (§4.3) is RFC 5869 with the chaining key as salt and no info. */
  #mixKey(secret) {
    const [chain, key] = halves(hkdf(sha256, secret, this.#chain, EMPTY, 2 * KEY));
    this.#chain = chain;
    return new CipherState(key);
  }
}

function halves(bytes) {
  return [bytes.slice(0, KEY), bytes.slice(KEY)];
}
