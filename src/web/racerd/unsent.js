// All that this browser has said to a server and not sent: in other rooms, by other tabs, by tabs that are closed. It shows
// what waits, and sends what no living tab sends: by resuming the very session that said it, on a socket of its own, while
// it holds that tab's lease (lease.js). Never under another session: keys count for each session, and what was stored but
// not acknowledged would be stored twice. Where the session cannot be resumed the user decides.

import { base64url, random, randomText } from "./bytes.js";
import { Emitter } from "./events.js";
import { takeLease } from "./lease.js";
import { Outbox } from "./outbox.js";

/** In milliseconds. A tab that is gone for so long is not just reloaded. */
const GONE = 3000;
/** It looks so often, though nothing is heard of any change: a tab that crashed says nothing. */
const EVERY = 15_000;
/** A server that refuses is asked again after this. */
const REFUSED = 60_000;

/**
 * @typedef {object} UnsentRow
 * @property {string} key
 * @property {string} room
 * @property {string} name of its author
 * @property {number} at the date when it was said
 * @property {any} body null where it is encrypted
 * @property {boolean} encrypted
 * @property {string|undefined} pin of the server, where it is to go sealed
 * @property {"waiting"|"failed"} state "failed": it is not sent any more by itself
 * @property {string} [code] why, as a RacerdError has it
 * @property {string} [reason] why, in words
 * @property {string} owner the tab that said it (`client.tab`)
 *
 * Its event: `change` with the rows.
 */
export class Unsent extends Emitter {
  /** @type {UnsentRow[]} in the order in which they were said */
  rows = [];

  #base;
  #make;
  #outbox = null;
  #isClosed = false;
  /** What is under way, by owner: {client, release}. */
  #errands = new Map();
  /** Since when nobody holds an owner's lease; and why and until when it is left alone. */
  #freeSince = new Map();
  #refused = new Map();
  #looking = null;
  #timers = new Set();

  /**
   * @param {{base: string}} options
   * @param {(options: object) => Client} make a client for a session that another tab left
   */
  constructor({ base }, make) {
    super();
    this.#base = base;
    this.#make = make;
    this.#begin();
  }

  async #begin() {
    const outbox = await Outbox.open();
    if (this.#isClosed || !outbox.keeps) return outbox.close();
    this.#outbox = outbox;
    outbox.onChange(() => this.#look());
    const again = () => {
      this.#look();
      this.#after(EVERY, again);
    };
    again();
  }

  #after(pause, act) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, pause);
    this.#timers.add(timer);
  }

  /** Looks at once: to be called when the page is shown, or the network is back. */
  check() {
    this.#refused.clear();
    for (const { client } of this.#errands.values()) client.check();
    this.#look();
  }

  /** The user gives it up. */
  discard(key) {
    return this.#outbox?.remove(key).then(() => this.#look());
  }

  /**
   * The user wants what failed to be said again, under its author's name, by a new session. What is encrypted keeps its key,
   * which it is sealed with: if it was stored before, the server says so.
   */
  async again(key) {
    const row = this.rows.find((row) => row.key === key && row.state === "failed");
    if (!row) return;
    const owner = randomText(12);
    this.#freeSince.set(owner, -Infinity);
    const changes = { owner, session: randomText(12), token: null, failed: undefined };
    await this.#outbox.change(new Set([key]), row.encrypted ? changes : { ...changes, key: base64url(random(16)) });
    await this.#look();
  }

  /** Ends it. What is under way is left as it is. */
  close() {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const { client, release } of this.#errands.values()) {
      client.close();
      release();
    }
    this.#errands.clear();
    this.#outbox?.close();
    this.#outbox = null;
  }

  /** Looks what there is. One look at a time; what is asked for meanwhile is one more. */
  #look() {
    this.#looking ??= { isAgain: false };
    if (this.#looking.done) {
      this.#looking.isAgain = true;
      return this.#looking.done;
    }
    const look = async () => {
      do {
        this.#looking.isAgain = false;
        await this.#lookOnce();
      } while (this.#looking.isAgain && !this.#isClosed);
      this.#looking = null;
    };
    this.#looking.done = look();
    return this.#looking.done;
  }

  async #lookOnce() {
    const rows = (await this.#outbox?.rows(this.#base)) ?? [];
    if (this.#isClosed) return;
    this.#show(rows);
    for (const owner of new Set(rows.filter(({ failed }) => !failed).map(({ owner }) => owner))) {
      if (!this.#errands.has(owner)) await this.#try(owner);
      if (this.#isClosed) return;
    }
  }

  #show(rows) {
    const shown = rows.map(({ key, room, name, at, body, failed, owner, pin }) => {
      const encrypted = body?.e2e === 1;
      const { code, message } = failed ?? this.#refused.get(owner) ?? {};
      return { key, room, name, at, body: encrypted ? null : body, encrypted, pin, state: failed ? "failed" : "waiting", code, reason: message, owner };
    });
    if (JSON.stringify(shown) === JSON.stringify(this.rows)) return;
    this.rows = shown;
    this.emit("change", shown);
  }

  /** Sends what this owner left, if it is gone, and not only for the moment of a reload. */
  async #try(owner) {
    const now = performance.now();
    if (this.#refused.get(owner)?.until > now) return;
    const release = await takeLease(owner, 0);
    if (!release) return this.#freeSince.delete(owner);
    const since = this.#freeSince.get(owner) ?? now;
    this.#freeSince.set(owner, since);
    if (this.#isClosed) return release();
    if (now - since < GONE) {
      release();
      return this.#after(GONE, () => this.#look());
    }
    // With the lease in hand: what is there now is nobody else's.
    const rows = (await this.#outbox.rows(this.#base)).filter((row) => row.owner === owner && !row.failed);
    if (this.#isClosed || rows.length === 0) return release();
    this.#send(owner, rows.filter(({ session }) => session === rows[0].session), release);
  }

  #send(owner, rows, release) {
    const [{ name, pin }] = rows;
    const client = this.#make({ name: name || undefined, pin, errand: { outbox: this.#outbox, rows } });
    this.#errands.set(owner, { client, release });
    const end = () => {
      if (!this.#errands.delete(owner)) return;
      client.close();
      release();
      this.#look();
    };
    client.on("rest", end);
    client.on("state", ({ phase, reason }) => {
      if (phase !== "stopped" || !reason) return;
      this.#refused.set(owner, { code: "refused", message: reason, until: performance.now() + REFUSED });
      end();
    });
    client._run();
  }
}
