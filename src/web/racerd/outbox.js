// What was said and is not acknowledged yet, kept so that a reload loses nothing: in IndexedDB. Where there is none (Node,
// a private window) nothing is kept, and what is unsent lives as long as the page. It knows no room and no socket.
//
// Each entry has an owner (the tab: see lease.js), since all tabs share the database and each sends its own only.

const STORE = "entries";
/** Who closed a tab for good comes back for nothing: what is older goes, in milliseconds. */
const FORGOTTEN = 30 * 86_400_000;

/**
 * @typedef {object} Entry
 * @property {string} key of the `send`
 * @property {string} room
 * @property {any} body
 * @property {number} at when it was said, by `Date.now()`
 */

export class Outbox {
  #database;
  #owner;

  constructor(database, owner) {
    this.#database = database;
    this.#owner = owner;
  }

  /** Opens the outbox of this owner; one that keeps nothing where the browser refuses. */
  static async open(owner) {
    const database = await new Promise((resolve) => {
      try {
        const request = globalThis.indexedDB.open("racerd", 1);
        request.onupgradeneeded = () => request.result.createObjectStore(STORE, { autoIncrement: true }).createIndex("key", "key");
        request.onsuccess = () => resolve(request.result);
        request.onerror = request.onblocked = () => resolve(null);
      } catch {
        resolve(null);
      }
    });
    return new Outbox(database, owner);
  }

  /** @returns {Promise<Entry[]>} what is kept of this owner, in the order in which it was said */
  async entries() {
    const own = [];
    await this.#walk((cursor) => {
      if (cursor.value.at < Date.now() - FORGOTTEN) cursor.delete();
      else if (cursor.value.owner === this.#owner) own.push(cursor.value);
    });
    return own;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#attempt((store) => store.add({ ...entry, owner: this.#owner }));
  }

  remove(key) {
    this.#walk((cursor) => cursor.delete(), key);
  }

  close() {
    // What is under way is done before.
    this.#database?.close();
    this.#database = null;
  }

  /** Each entry; those with this key only, if one is given. */
  #walk(visit, key) {
    return this.#attempt((store) => {
      const request = key === undefined ? store.openCursor() : store.index("key").openCursor(key);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return;
        visit(cursor);
        cursor.continue();
      };
    });
  }

  /** A transaction; a full disk or a body that cannot be kept costs only the safety of a reload. */
  #attempt(act) {
    return new Promise((resolve) => {
      try {
        const transaction = this.#database.transaction(STORE, "readwrite");
        transaction.oncomplete = transaction.onabort = () => resolve();
        act(transaction.objectStore(STORE));
      } catch {
        resolve();
      }
    });
  }
}
