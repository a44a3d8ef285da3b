// What was said and is not acknowledged yet, kept so that neither a reload nor a closed tab loses it: in IndexedDB. Where
// there is none (Node, a private window) nothing is kept, and what is unsent lives as long as the page. It knows no room
// and no socket.
//
// All tabs share the database. Each row names its owner, which is the lease of the tab that said it (lease.js), and keeps
// the token of the session whose key it goes under: whoever holds that lease may resume that session and send the row,
// and nobody may send it otherwise. The token goes with the row.

const NAME = "racerd";
const STORE = "entries";

/**
 * @typedef {object} Row
 * @property {string} key of the `send`
 * @property {string} room
 * @property {any} body as it is sent: sealed, where the room has a key
 * @property {number} at the date when it was said, in milliseconds; to be shown, and never reckoned with
 * @property {string} name of its author
 * @property {string} owner
 * @property {string} session names the session that it belongs to: no token, only a mark by which rows of one session are known
 * @property {string|null} token by which that session is resumed; null if it never began, so that nothing was sent
 * @property {string} base of the server
 * @property {string} [pin] of the server
 * @property {{code: string, message: string}} [failed] why it is not sent: the user decides
 */

export class Outbox {
  #database;
  #channel;
  #changed = () => {};

  constructor(database) {
    this.#database = database;
    try {
      this.#channel = database && new BroadcastChannel(`${NAME}.outbox`);
      if (this.#channel) this.#channel.onmessage = () => this.#changed();
    } catch {
      // Refused by a setting: then tabs hear of each other when they look.
      this.#channel = null;
    }
  }

  /** Opens the outbox; one that keeps nothing where the browser refuses. */
  static async open() {
    return new Outbox(await new Promise((resolve) => {
      try {
        const request = globalThis.indexedDB.open(NAME, 1);
        request.onupgradeneeded = () => request.result.createObjectStore(STORE, { autoIncrement: true }).createIndex("key", "key");
        request.onsuccess = () => resolve(request.result);
        request.onerror = request.onblocked = () => resolve(null);
      } catch {
        resolve(null);
      }
    }));
  }

  /** Does it keep anything at all? */
  get keeps() {
    return this.#database !== null;
  }

  /** Calls this when another tab, or another part of this page, changed a row. */
  onChange(changed) {
    this.#changed = changed;
  }

  /** @returns {Promise<Row[]>} all rows of this server, in the order in which they were said */
  async rows(base) {
    const rows = [];
    await this.#walk("readonly", (cursor) => {
      if ((cursor.value.base ?? base) === base) rows.push(cursor.value);
    });
    return rows;
  }

  /**
   * @param {Row} row
   * @returns {Promise<boolean>} whether it is kept
   */
  add(row) {
    return this.#write((store) => store.add(row));
  }

  /**
   * Writes these fields into rows: those with one of these keys.
   * @param {Set<string>} keys
   */
  change(keys, fields) {
    if (keys.size === 0) return Promise.resolve(true);
    return this.#walk("readwrite", (cursor) => keys.has(cursor.value.key) && cursor.update({ ...cursor.value, ...fields }));
  }

  /** The session has another token. */
  renew(session, token) {
    return this.#walk("readwrite", (cursor) => cursor.value.session === session && cursor.update({ ...cursor.value, token }));
  }

  remove(key) {
    return this.#walk("readwrite", (cursor) => cursor.delete(), key);
  }

  close() {
    this.#changed = () => {};
    this.#channel?.close();
    // What is under way is done before.
    this.#database?.close();
    this.#database = this.#channel = null;
  }

  /** Visits each row; those with this key only, if one is given. */
  #walk(mode, visit, key) {
    const act = (store) => {
      const request = key === undefined ? store.openCursor() : store.index("key").openCursor(key);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return;
        visit(cursor);
        cursor.continue();
      };
    };
    return mode === "readonly" ? this.#attempt(mode, act) : this.#write(act);
  }

  async #write(act) {
    const channel = this.#channel;
    const isKept = await this.#attempt("readwrite", act);
    try {
      channel?.postMessage(null);
    } catch {
      // It was closed meanwhile.
    }
    return isKept;
  }

  /** A transaction; false where it did not come about: a full disk costs only the safety of a reload. */
  #attempt(mode, act) {
    return new Promise((resolve) => {
      try {
        const transaction = this.#database.transaction(STORE, mode);
        transaction.oncomplete = () => resolve(true);
        transaction.onabort = () => resolve(false);
        act(transaction.objectStore(STORE));
      } catch {
        resolve(false);
      }
    });
  }
}
