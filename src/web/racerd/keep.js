// What a client keeps over a reload: its session's token and places, by the `store` that it was given, and what is unsent,
// in the outbox. It holds the lease under which both are used. It knows no socket.
//
// A session's keys count in that session only. So each row names the session that it belongs to, and is sent again only
// while that very session goes on; a row of one that ended is shown as not sent.

import { randomText } from "./bytes.js";
import { takeLease } from "./lease.js";
import { Outbox } from "./outbox.js";

/** Of what was sent by a session that did not go on. */
export const UNKNOWN = "the connection was lost, and whether this was stored is not known";

export class Keep {
  /** The lease's name, which is the owner of rows. */
  tab = randomText(12);
  /** Names the session in rows. */
  session = randomText(12);
  /** What the session is resumed by. */
  token = null;
  /** Where one was in the session's rooms before the page was loaded. */
  places = {};
  /** Rows of rooms that are not joined yet. */
  unsent = [];
  /** Is it kept over a reload: the session's token, and what is unsent? null where that is not known yet. */
  storage = { session: null, outbox: null };

  #store;
  #who;
  #outbox = null;
  #isLent = false;
  #release = null;
  #rest = Promise.resolve(true);
  #told;

  /**
   * @param {object} store of the session; null to keep nothing
   * @param {{base: string, name?: string, pin?: string}} who one is, and to whom
   * @param {() => void} told that `storage` changed
   */
  constructor(store, who, told) {
    this.#store = store ?? null;
    this.#who = who;
    this.#told = told;
  }

  /** For a session that is somebody else's, whose lease is held: its rows, in their outbox. */
  adopt(outbox, rows) {
    const [{ owner, session, token }] = rows;
    Object.assign(this, { tab: owner, session, token, unsent: rows });
    this.#outbox = outbox;
    this.#isLent = true;
  }

  /** Is there anything to be kept, or found? */
  get isWanted() {
    return this.#store !== null;
  }

  /** Finds what was kept. `isStillWanted` is asked at the end; where it is not, nothing is held. */
  async begin(isStillWanted) {
    const { base, name, pin } = this.#who;
    let saved = null;
    try {
      saved = this.#store.load();
    } catch {
      // Refused by a setting.
    }
    // A session has its name for good; and what was sealed is not shown to whom the pin does not name.
    const isSame = typeof saved?.tab === "string" && saved.name === name && saved.pin === pin;
    // Of a duplicated tab, this is the session of the other one, which goes on using it.
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
    // The session's store may have forgotten what the rows know.
    this.token ??= rows.find(({ session }) => session === this.session)?.token ?? null;
    this.unsent = rows;
    this.#tell({ outbox: outbox.keeps });
  }

  /** Takes the rows of this room, to be restored. */
  take(room) {
    const rows = this.unsent.filter((row) => row.room === room);
    if (rows.length > 0) this.unsent = this.unsent.filter((row) => row.room !== room);
    return rows;
  }

  /** May a row be sent by this session? "unsure": if it goes on. */
  fate({ session, token, failed }, isOpen) {
    if (failed) return "failed";
    if (session === this.session) return isOpen || this.token === null ? "queued" : "unsure";
    // Where there never was a token, nothing was ever sent.
    return token === null ? "queued" : "ended";
  }

  /** Stores where one is by now. */
  save(places) {
    if (!this.#store || !this.#release) return;
    const { name, pin } = this.#who;
    let isKept = true;
    try {
      const { tab, session, token } = this;
      isKept = this.#store.save({ tab, session, token, name, pin, places }) !== false;
    } catch {
      isKept = false;
    }
    this.#tell({ session: isKept });
  }

  /** The session goes on, with another token. */
  renew(token) {
    this.token = token;
    if (this.#outbox?.keeps) this.#rest = this.#outbox.renew(this.session, token);
  }

  /**
   * Another session begins, and takes over the rows with these keys, of which nothing was sent yet. Nothing may be sent
   * before `rest` is done: a row without a token says that nothing was.
   */
  change(keys, token) {
    if (this.token !== null) this.session = randomText(12);
    this.token = token;
    if (this.#outbox?.keeps) this.#rest = this.#outbox.change(keys, { session: this.session, token });
  }

  /** These rows, of sessions that never began, belong to this one from now on. */
  move(rows) {
    const keys = new Set(rows.filter(({ session }) => session !== this.session).map(({ key }) => key));
    const { session, token } = this;
    if (keys.size > 0) this.#rest = this.#outbox.change(keys, { session, token });
  }

  /** What waits in a room, as rows of this session. */
  rowsOf(room, sends) {
    const { tab: owner, session, token } = this;
    return sends.map(({ key, body, name, at }) => ({ key, room, body, name, at, owner, session, token }));
  }

  /** What is being written; null if nothing is kept. */
  get rest() {
    return this.#outbox?.keeps ? this.#rest : null;
  }

  /** Keeps a row; gives whether it is kept, by and by. */
  async add(row) {
    if (!this.#outbox) return false;
    const { tab: owner, session, token } = this;
    const { base, pin } = this.#who;
    const isKept = await this.#outbox.add({ ...row, owner, session, token, base, pin });
    this.#tell({ outbox: isKept });
    return isKept;
  }

  remove(key) {
    this.unsent = this.unsent.filter((row) => row.key !== key);
    this.#outbox?.remove(key);
  }

  /** A row is not sent any more by itself. */
  fail(key, { code, message }) {
    this.#outbox?.change(new Set([key]), { failed: { code, message } });
  }

  /** Somebody else has taken the session: what comes is another one. */
  abandon() {
    this.#release?.();
    Object.assign(this, { tab: randomText(12), session: randomText(12), token: null, places: {}, unsent: [] });
    if (!this.#store) return;
    this.#release = () => {};
    const { tab } = this;
    takeLease(tab).then((release) => (this.tab === tab && this.#release ? (this.#release = release) : release?.()));
  }

  /** A row's session has ended. */
  giveUp(row) {
    row.failed = { code: "unknown_fate", message: UNKNOWN };
    this.fail(row.key, row.failed);
  }

  close() {
    if (!this.#isLent) this.#outbox?.close();
    this.#release?.();
    this.#outbox = this.#release = null;
  }

  #tell(change) {
    const before = this.storage;
    this.storage = { ...before, ...change };
    if (Object.keys(change).some((what) => change[what] !== before[what])) this.#told();
  }
}
