// Lists what this browser has not sent to a server yet, and sends what no open tab sends: under that tab's lease
// (lease.js), it resumes the session that said it, on a socket of its own. In any other session the keys would be
// worthless, and a message that was stored but not acknowledged would be stored twice. If the session cannot be
// resumed, the user decides.

import { base64url, random, randomText } from "./bytes.js";
import { isSealed } from "./encrypted.js";
import { Emitter } from "./events.js";
import { takeLease } from "./lease.js";
import { Outbox } from "./outbox.js";

/** A tab that is gone for this long, in milliseconds, is not just being reloaded. */
const GONE = 3000;
/** The polling interval: a tab that crashed announces nothing. */
const EVERY = 15_000;
/** Pause before a server that refuses is asked again. */
const REFUSED = 60_000;

/** Emits `change` with the rows. */
export class Unsent extends Emitter {
  /**
   * In the order in which they were said: {key, room, name, at, body, encrypted, pin, owner, state, code, reason}.
   * `name` is the author's, `at` the date when it was said, `body` null if `encrypted`, `owner` the `tab` of its
   * client. In the state "waiting" it is sent automatically, in the state "failed" only by the user; `code` and
   * `reason` tell why.
   */
  rows = [];

  #base;
  #make;
  #outbox = null;
  #isClosed = false;
  /** Deliveries under way, by owner: {client, release}. */
  #deliveries = new Map();
  /** When each owner's lease was first found free; and until when, and why, an owner is left alone. */
  #freeSince = new Map();
  #refused = new Map();
  #polling = null;
  #isStale = false;
  #timers = new Set();

  /** `make(options)` makes a client that delivers. */
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
    outbox.onChange(() => this.#poll());
    const again = () => {
      this.#poll();
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

  /** Polls at once: call it when the page is shown or the network is back. */
  check() {
    this.#refused.clear();
    for (const { client } of this.#deliveries.values()) client.check();
    this.#poll();
  }

  discard(key) {
    return this.#outbox?.remove(key).then(() => this.#poll());
  }

  /**
   * Sends a failed row again, by a new session under its author's name. An encrypted body is bound to its key and keeps
   * it; if it was stored before, the server says so.
   */
  async again(key) {
    const row = this.rows.find((row) => row.key === key && row.state === "failed");
    if (!row) return;
    const owner = randomText(12);
    this.#freeSince.set(owner, -Infinity);
    const changes = { owner, session: randomText(12), token: null, failed: undefined };
    await this.#outbox.change(new Set([key]), row.encrypted ? changes : { ...changes, key: base64url(random(16)) });
    await this.#poll();
  }

  close() {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const { client, release } of this.#deliveries.values()) {
      client.close();
      release();
    }
    this.#deliveries.clear();
    this.#outbox?.close();
    this.#outbox = null;
  }

  /** Polls the outbox; a call during a poll causes one more. */
  #poll() {
    this.#isStale = true;
    return (this.#polling ??= this.#pollAll());
  }

  async #pollAll() {
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false;
      await this.#pollOnce();
    }
    this.#polling = null;
  }

  async #pollOnce() {
    const rows = (await this.#outbox?.rows(this.#base)) ?? [];
    if (this.#isClosed) return;
    this.#show(rows);
    for (const owner of new Set(rows.filter(({ failed }) => !failed).map(({ owner }) => owner))) {
      if (!this.#deliveries.has(owner)) await this.#try(owner);
      if (this.#isClosed) return;
    }
  }

  #show(rows) {
    const shown = rows.map(({ key, room, name, at, body, failed, owner, pin }) => {
      const encrypted = isSealed(body);
      const { code, message } = failed ?? this.#refused.get(owner) ?? {};
      return { key, room, name, at, body: encrypted ? null : body, encrypted, pin, state: failed ? "failed" : "waiting", code, reason: message, owner };
    });
    if (JSON.stringify(shown) === JSON.stringify(this.rows)) return;
    this.rows = shown;
    this.emit("change", shown);
  }

  /** Sends the rows of an owner that is gone for good. */
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
      return this.#after(GONE, () => this.#poll());
    }
    // Read again, now that nobody else changes these rows.
    const rows = (await this.#outbox.rows(this.#base)).filter((row) => row.owner === owner && !row.failed);
    if (this.#isClosed || rows.length === 0) return release();
    this.#send(owner, rows.filter(({ session }) => session === rows[0].session), release);
  }

  #send(owner, rows, release) {
    const [{ name, pin }] = rows;
    const client = this.#make({ name: name || undefined, pin, delivery: { outbox: this.#outbox, rows } });
    this.#deliveries.set(owner, { client, release });
    const end = () => {
      if (!this.#deliveries.delete(owner)) return;
      client.close();
      release();
      this.#poll();
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
