// Keeps a session across a reload: token and cursors in the caller's `store`, unsent messages in the outbox. Both are
// used under a lease.
//
// Keys are valid within one session. So each row names its session and is sent again only while that goes on.

import { randomText } from "./bytes.js";
import { takeLease } from "./lease.js";
import { Outbox } from "./outbox.js";

/** Why a message of a session that ended is not sent again. */
export const UNKNOWN = "the connection was lost, and it is not known whether this was stored";

export class SavedSession {
  /** The lease's name, which is also the owner of rows. */
  tab = randomText(12);
  session = randomText(12);
  token = null;
  /** The cursors from before the page was loaded, by room. */
  places = {};
  /** Rows of rooms that are not joined yet. */
  unsent = [];
  /** Do the token and unsent messages survive a reload? null while unknown. */
  storage = { session: null, outbox: null };

  #store;
  #identity;
  #changed;
  #outbox = null;
  #isAdopted = false;
  #release = null;
  #rest = Promise.resolve(true);

  /** Without a `store` nothing is kept. `changed()` is called when `storage` changed. */
  constructor(store, identity, changed) {
    this.#store = store ?? null;
    this.#identity = identity;
    this.#changed = changed;
  }

  /** Adopts another tab's session, whose lease the caller holds. */
  adopt(outbox, rows) {
    const [{ owner, session, token }] = rows;
    Object.assign(this, { tab: owner, session, token, unsent: rows });
    this.#outbox = outbox;
    this.#isAdopted = true;
  }

  get isWanted() {
    return this.#store !== null;
  }

  /** Loads what was kept. Holds nothing if `isStillWanted` returns false at the end. */
  async begin(isStillWanted) {
    const { base, name, pin } = this.#identity;
    let saved = null;
    try {
      saved = this.#store.load();
    } catch {
      // A setting forbids it.
    }
    // A session keeps its name; and what was sealed for a pin is shown to no other server.
    const isSame = typeof saved?.tab === "string" && saved.name === name && saved.pin === pin;
    // In a duplicated tab this is the original's session, which the original goes on using.
    let release = isSame ? await takeLease(saved.tab) : null;
    if (release) {
      this.tab = saved.tab;
      this.session = saved.session ?? this.session;
      this.token = saved.token ?? null;
      this.places = saved.places ?? {};
    } else {
      release = await takeLease(this.tab);
    }
    const outbox = await Outbox.open();
    const rows = (await outbox.rows(base)).filter(({ owner }) => owner === this.tab);
    if (!isStillWanted()) {
      outbox.close();
      release?.();
      return;
    }
    this.#release = release ?? (() => {});
    this.#outbox = outbox;
    // The store may have lost a token that the rows have.
    this.token ??= rows.find(({ session }) => session === this.session)?.token ?? null;
    this.unsent = rows;
    this.#tell({ outbox: outbox.keeps });
  }

  take(room) {
    const rows = this.unsent.filter((row) => row.room === room);
    if (rows.length > 0) this.unsent = this.unsent.filter((row) => row.room !== room);
    return rows;
  }

  /** Tells whether this session may send a row; "unknown": only if the session goes on. */
  stateOf({ session, token, failed }, isOpen) {
    if (failed) return "failed";
    if (session === this.session) return isOpen || this.token === null ? "queued" : "unknown";
    // A session without a token never sent anything.
    return token === null ? "queued" : "ended";
  }

  save(places) {
    if (!this.#store || !this.#release) return;
    const { name, pin } = this.#identity;
    let isKept = true;
    try {
      const { tab, session, token } = this;
      isKept = this.#store.save({ tab, session, token, name, pin, places }) !== false;
    } catch {
      isKept = false;
    }
    this.#tell({ session: isKept });
  }

  renew(token) {
    this.token = token;
    if (this.#outbox?.keeps) this.#rest = this.#outbox.renew(this.session, token);
  }

  /**
   * Begins another session, and moves the rows with these keys into it. Nothing may be sent until `rest` is done: a row
   * without a token means that nothing was sent.
   */
  change(keys, token) {
    if (this.token !== null) this.session = randomText(12);
    this.token = token;
    if (this.#outbox?.keeps) this.#rest = this.#outbox.change(keys, { session: this.session, token });
  }

  /** Moves rows of sessions that never began into this one. */
  move(rows) {
    const keys = new Set(rows.filter(({ session }) => session !== this.session).map(({ key }) => key));
    const { session, token } = this;
    if (keys.size > 0) this.#rest = this.#outbox.change(keys, { session, token });
  }

  rowsOf(room, sends) {
    const { tab: owner, session, token } = this;
    return sends.map(({ key, body, name, at }) => ({ key, room, body, name, at, owner, session, token }));
  }

  /** The write under way; null if nothing is kept. */
  get rest() {
    return this.#outbox?.keeps ? this.#rest : null;
  }

  /** Adds a row; resolves with whether it is kept. */
  async add(row) {
    if (!this.#outbox) return false;
    const { tab: owner, session, token } = this;
    const { base, pin } = this.#identity;
    const isKept = await this.#outbox.add({ ...row, owner, session, token, base, pin });
    this.#tell({ outbox: isKept });
    return isKept;
  }

  /** Writes these fields into a row; resolves with whether it is kept. */
  async write(key, fields) {
    return this.#outbox ? this.#outbox.change(new Set([key]), fields) : false;
  }

  remove(key) {
    this.unsent = this.unsent.filter((row) => row.key !== key);
    this.#outbox?.remove(key);
  }

  /** Marks a row as failed: only the user sends it again. */
  fail(key, { code, message }) {
    this.#outbox?.change(new Set([key]), { failed: { code, message } });
  }

  /** Forgets the session, which has ended. Rows that have failed stay those of the old one. */
  end() {
    Object.assign(this, { session: randomText(12), token: null });
  }

  /** Starts over: another window has taken this session. */
  abandon() {
    this.#release?.();
    Object.assign(this, { tab: randomText(12), session: randomText(12), token: null, places: {}, unsent: [] });
    if (!this.#store) return;
    this.#release = () => {};
    const { tab } = this;
    takeLease(tab).then((release) => (this.tab === tab && this.#release ? (this.#release = release) : release?.()));
  }

  giveUp(row) {
    row.failed = { code: "unknown_fate", message: UNKNOWN };
    this.fail(row.key, row.failed);
  }

  close() {
    if (!this.#isAdopted) this.#outbox?.close();
    this.#release?.();
    this.#outbox = this.#release = null;
  }

  #tell(change) {
    const before = this.storage;
    this.storage = { ...before, ...change };
    if (Object.keys(change).some((what) => change[what] !== before[what])) this.#changed();
  }
}
