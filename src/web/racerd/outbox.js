// Stores messages in IndexedDB until they are acknowledged, so that neither a reload nor a closed tab loses them.
// Without IndexedDB (Node, some private windows) they last as long as the page.
//
// All tabs share the database. A row keeps the token of its session, and only the holder of its owner's lease
// (lease.js) may resume that session and send the row. The token is deleted with the session's last row.

const NAME = "racerd";
const STORE = "entries";

/**
 * Rows are {key, room, name, at, body, base, pin, owner, session, token, failed}: `body` is what is sent, sealed if the
 * room has a key; `at` is a date, only for display; `owner` is the tab that said it; `session` identifies its session;
 * `token` resumes that, and is null if it never began, so that nothing was sent; `failed` is {code, message} if only
 * the user sends it again.
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
      // A setting forbids it: then tabs notice changes by polling.
      this.#channel = null;
    }
  }

  /** Opens the outbox; one that keeps nothing if the browser refuses. */
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

  get keeps() {
    return this.#database !== null;
  }

  /** Calls `changed` when another tab, or other code in this page, has changed a row. */
  onChange(changed) {
    this.#changed = changed;
  }

  /** Resolves with all rows for this server, in the order in which they were said. */
  async rows(base) {
    const rows = [];
    await this.#walk("readonly", (cursor) => {
      if ((cursor.value.base ?? base) === base) rows.push(cursor.value);
    });
    return rows;
  }

  /** Resolves with whether the row is kept; so do the other writes. */
  add(row) {
    return this.#write((store) => store.add(row));
  }

  /** Writes `fields` into all rows with one of these keys. */
  change(keys, fields) {
    if (keys.size === 0) return Promise.resolve(true);
    return this.#walk("readwrite", (cursor) => keys.has(cursor.value.key) && cursor.update({ ...cursor.value, ...fields }));
  }

  renew(session, token) {
    return this.#walk("readwrite", (cursor) => cursor.value.session === session && cursor.update({ ...cursor.value, token }));
  }

  remove(key) {
    return this.#walk("readwrite", (cursor) => cursor.delete(), key);
  }

  close() {
    this.#changed = () => {};
    this.#channel?.close();
    // Transactions under way finish first.
    this.#database?.close();
    this.#database = this.#channel = null;
  }

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
      // The channel was closed meanwhile.
    }
    return isKept;
  }

  /** Runs a transaction. Resolves with false if it failed, as with a full disk. */
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
