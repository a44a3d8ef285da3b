// One room as a client of racerd knows it: what it has seen of the log, who is there, and what is to be said. Sockets and
// requests are the client's (racerd.js); it hands in what came, and what may be done on the wire.
//
// Sending again after a loss. A key counts for the session, over all its sockets: so what was not acknowledged goes out
// again under the same key once the session is resumed, and the server stores it once. Where the session cannot be
// resumed, whether it was stored is not known: then it fails, and a person decides. What never went out is sent then, too.
//
// With a key, the server cannot read what is said: bodies are sealed before they are kept or sent, and opened when they
// come (room_key.js, which is loaded for that).

import { Emitter, RacerdError } from "./events.js";

/** What was said so long ago, in milliseconds, is not sent any more by itself: nobody waits for it. */
const TOO_OLD = 7 * 86_400_000;

/**
 * A room that one is in. Its events:
 *   `joined`    {again, recovered, from, head}: what is new since the last time follows as messages
 *   `live`      all that was said before is here
 *   `message`   {seq, at, from: {member, name}, body, own, key}: in order, each once; `own` is said by oneself, `key`
 *               that of the `send` it comes from. `encrypted` if its body came sealed, and `unreadable` if it could
 *               not be opened (`body` is null then): "no_key", "wrong_key", "repeat", or "damaged" on the server's disk
 *   `hole`      {after, from, restart}: what lies between these seqs is not kept; with `restart` nothing before is,
 *               and seqs begin anew
 *   `members`   the list changed: see `members`, `count`
 *   `presence`  [{event: "join"|"leave"|"away"|"back", member, name}]: who came and went just now
 *   `unsent`    {key, body, unreadable, done}: said before a reload, and not acknowledged then; as if it was sent now
 *   `signal`    {from, body}    `lagging` {behind}    `down`: the connection is lost, one is in no room
 */
export class Room extends Emitter {
  id;
  joined = false;
  /** The last seq that was seen, and the first; of this log. */
  cursor = null;
  epoch = null;
  /** @type {Map<string, string>} who is here, by member; empty where only the count is told */
  members = new Map();
  /** @type {Set<string>} of those, whose connection is lost at the moment */
  away = new Set();
  count = 0;

  #options;
  #client;
  #wire;
  /** Seals and opens bodies: null without a key, and until its code is loaded. */
  #cipher = null;
  #loading = null;
  /** A join was asked for, and not answered. */
  #isAsked = false;
  /**
   * What is not acknowledged, in order: {key, body, said, at, resolve, reject, fate: "queued"|"flying"|"unsure"}. The
   * body is as it is sent; undefined as long as `said` is not sealed.
   */
  #outbox = [];
  #head = 0;
  #live = false;
  /** The keys of what is acknowledged and not heard yet, by seq: the ack comes first. */
  #acknowledgedKeys = new Map();

  constructor(id, options, client, wire) {
    super();
    this.id = id;
    this.#options = options;
    this.#client = client;
    this.#wire = wire;
  }

  /**
   * Says something to all. It is sent when there is a connection, and again after a loss if it was not stored.
   * @param {any} body a JSON value
   * @returns {{key: string, done: Promise<{seq: number, at: number}>}} `done` resolves with the acknowledgement
   */
  send(body) {
    const send = { key: this.#wire.key(), said: body, at: Date.now(), fate: "queued" };
    const made = this.#put(send);
    if (this._isReady) this.#seal(send);
    this.#wire.pump();
    return made;
  }

  #put(send) {
    const done = new Promise((resolve, reject) => Object.assign(send, { resolve, reject }));
    this.#outbox.push(send);
    return { key: send.key, done };
  }

  /** Nothing is kept or sent before. */
  #seal(send) {
    send.body = this.#cipher ? this.#cipher.seal(send.said, send.key) : send.said;
    this.#wire.keep(entry(send, this.id));
  }

  /** What a body says, and whether it could be read. */
  #open(body, open) {
    if (!isSealed(body)) return { body, encrypted: false };
    if (!this.#cipher) return { body: null, encrypted: true, unreadable: "no_key" };
    try {
      return { body: open(this.#cipher), encrypted: true };
    } catch (error) {
      return { body: null, encrypted: true, unreadable: error.code };
    }
  }

  #hear({ body, seq, unreadable }) {
    // The server itself cannot read its row any more.
    if (unreadable) return { body: null, encrypted: false, unreadable: "damaged" };
    return this.#open(body, (cipher) => cipher.hear(body, seq));
  }

  /** A send that failed is not wanted any more: it would come back with a reload. */
  forget(key) {
    this.#wire.drop(key);
  }

  /** Is what is said here sealed under a key of its members? */
  get isEncrypted() {
    return this.#options.roomKey !== undefined;
  }

  /** How many bytes a body is too long to be sent; 0 or less if it is not. Known once the server was heard. */
  excess(body) {
    const sent = this.#cipher ? this.#cipher.blank(body) : body;
    const frame = { type: "send", id: 2 ** 53, room: this.id, key: "x".repeat(40), body: sent };
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    return this.#client.limits ? bytes - this.#client.longest : 0;
  }

  /** Tells the others something that is not kept, if there is a connection. */
  signal(body) {
    if (!this.joined) return;
    const sent = this.#cipher ? this.#cipher.seal(body, this.#wire.key()) : body;
    this.#wire.tell({ type: "signal", room: this.id, body: sent });
  }

  /**
   * A page of the log, oldest message first.
   * @param {{before?: number, after?: number, limit?: number}} span
   * @returns {Promise<{messages: object[], oldest: number, more: boolean}>}
   */
  async history(span) {
    const page = await this.#wire.request({ type: "history", room: this.id, ...span });
    for (const message of page.messages) {
      message.own = this.#client.formerly.has(message.from.member);
      Object.assign(message, this.#hear(message));
    }
    return page;
  }

  /** Leaves for good. */
  leave() {
    this.#wire.tell({ type: "leave", room: this.id });
    for (const { key } of this.#outbox) this.#wire.drop(key);
    this._abandon();
    this.#wire.forget();
  }

  // For the client.

  /** May bodies come and go? Else `_prepare` is to be awaited first. */
  get _isReady() {
    return !this.isEncrypted || this.#cipher !== null;
  }

  /** Loads what a room with a key takes. */
  async _prepare() {
    if (this._isReady) return;
    this.#loading ??= import("./room_key.js");
    try {
      const { RoomCipher } = await this.#loading;
      if (this._isReady) return;
      this.#cipher = new RoomCipher(this.#options.roomKey, this.id);
    } finally {
      this.#loading = null;
    }
    for (const send of this.#outbox) if (send.body === undefined) this.#seal(send);
  }

  /** Where to begin and what to hear, as a join says it, by its fields or in the URL. */
  _start() {
    const { last, presence } = this.#options;
    const begin = this.cursor !== null ? { after: this.cursor, epoch: this.epoch } : last ? { last } : {};
    return presence === "full" ? begin : { ...begin, presence };
  }

  /** Where it goes on, as a resume says it; null if it begins. */
  _place() {
    const { last, presence } = this.#options;
    if (!this._isReady) return null;
    if (this.cursor !== null) return { epoch: this.epoch, seq: this.cursor, presence };
    // Over a reload: as much as one wants to begin with is heard again.
    const kept = this.#wire.place();
    return kept ? { epoch: kept.epoch, seq: Math.max(0, kept.seq - last), presence } : null;
  }

  /** A join is asked for. Was one before that nobody answered? Then the server may think that one is here. */
  _ask() {
    const before = this.#isAsked;
    this.#isAsked = true;
    return before;
  }

  /** What waits to be sent, as an outbox keeps it. */
  _entries() {
    return this.#outbox.filter(({ body }) => body !== undefined).map((send) => entry(send, this.id));
  }

  /** From before a reload, and before all that was said since. Whether it was stored is open. */
  _restore(entries) {
    const since = this.#outbox.splice(0);
    for (const { key, body, at } of entries) {
      const made = this.#put({ key, body, at, fate: "unsure" });
      made.done.catch(() => {});
      const { encrypted, ...opened } = this.#open(body, (cipher) => cipher.open(body));
      this.emit("unsent", { ...made, ...opened });
    }
    if (this.#cipher) this.#giveUp(({ body }) => !isSealed(body), "not_encrypted", "it was written before this room had a key");
    this.#outbox.push(...since);
  }

  /** The session goes on: under its keys all may be sent again. */
  _resumed() {
    for (const send of this.#outbox) send.fate = "queued";
    this.#giveUp((send) => send.at < Date.now() - TOO_OLD, "too_old", "it is more than a week old");
  }

  /** Another session: its keys say nothing of what was sent before. */
  _begun() {
    this.#giveUp((send) => send.fate === "unsure", "unknown_fate", "the connection was lost, and whether this was stored is not known");
    this._resumed();
  }

  #giveUp(which, code, text) {
    const given = this.#outbox.filter(which);
    this.#outbox = this.#outbox.filter((send) => !which(send));
    for (const send of given) send.reject(new RacerdError(code, text));
  }

  _joined({ epoch, head, from, recovered, members }) {
    const again = this.cursor !== null;
    const restart = again && (epoch !== this.epoch || (!recovered && from <= this.cursor));
    const after = this.cursor;
    this.joined = true;
    this.#isAsked = false;
    this.#live = false;
    this.#head = head;
    this.epoch = epoch;
    this.cursor = from - 1;
    this.count = members;
    this.emit("joined", { again, recovered, from, head });
    if (restart) {
      this.#cipher?.forget();
      this.emit("hole", { after: 0, from, restart: true });
    } else if (again && from > after + 1) {
      this.emit("hole", { after, from, restart: false });
    }
    this.#progress();
  }

  _message(message) {
    const { seq, at, from } = message;
    if (!this.joined || seq <= this.cursor) return;
    if (seq > this.cursor + 1) this._gap({ after: this.cursor, from: seq });
    this.cursor = seq;
    const key = this.#acknowledgedKeys.get(seq);
    this.#acknowledgedKeys.delete(seq);
    this.emit("message", { seq, at, from, ...this.#hear(message), own: this.#client.formerly.has(from.member), key });
    this.#progress();
  }

  /** In a room with a key, what is not sealed under it is nothing. */
  _signal({ from, body }) {
    const { encrypted, unreadable, body: said } = this.#hear({ body });
    if (!unreadable && encrypted === (this.#cipher !== null)) this.emit("signal", { from, body: said });
  }

  _acknowledged(send, { seq, at }) {
    this.#outbox = this.#outbox.filter((other) => other !== send);
    this.#wire.drop(send.key);
    if (seq > this.cursor) this.#acknowledgedKeys.set(seq, send.key);
    send.resolve({ seq, at });
  }

  _refused(send, error) {
    // Not stored, or perhaps stored: the same key is harmless.
    if (error.code === "rate_limited" || error.code === "storage_unavailable") return void (send.fate = "queued");
    this.#outbox = this.#outbox.filter((other) => other !== send);
    this.#wire.drop(send.key);
    send.reject(error);
  }

  /** May something be sent? */
  _hasSend() {
    return this.joined && this.#outbox.some((send) => send.fate === "queued");
  }

  /** The next to be sent, which then is under way. Only where `_hasSend`. */
  _nextSend() {
    const send = this.#outbox.find((send) => send.fate === "queued");
    send.fate = "flying";
    return send;
  }

  _lost() {
    for (const send of this.#outbox) if (send.fate === "flying") send.fate = "unsure";
    this.#acknowledgedKeys.clear();
    if (!this.joined) return;
    this.joined = false;
    this.emit("down");
  }

  _abandon() {
    this.joined = false;
    const closed = new RacerdError("closed", "the room was left before this was acknowledged");
    for (const send of this.#outbox.splice(0)) send.reject(closed);
  }

  _gap({ after, from }) {
    if (!this.joined || from <= this.cursor + 1) return;
    this.emit("hole", { after, from, restart: false });
    this.cursor = Math.max(this.cursor, from - 1);
    this.#progress();
  }

  _members({ count, members }) {
    if (!this.joined) return;
    this.members = new Map(members.map(({ member, name }) => [member, name]));
    this.away = new Set(members.filter(({ away }) => away).map(({ member }) => member));
    this.count = count;
    this.emit("members");
  }

  _presence({ count, events }) {
    if (!this.joined) return;
    this.count = count;
    for (const { event, member, name } of events) {
      if (event === "leave") this.members.delete(member);
      else this.members.set(member, name);
      if (event === "away") this.away.add(member);
      else this.away.delete(member);
    }
    // A room that grew large tells counts only, and the names would no longer be true.
    if (events.length === 0 && this.members.size !== count) {
      this.members.clear();
      this.away.clear();
    }
    if (events.length > 0) this.emit("presence", events);
    this.emit("members");
  }

  /** Is all here that was said before one came? */
  #progress() {
    if (this.#live || !this.joined || this.cursor < this.#head) return;
    this.#live = true;
    this.emit("live");
  }
}

/** What an outbox keeps of a send. */
function entry({ key, body, at }, room) {
  return { key, room, body, at };
}

/** Is this the body of a message that only members can read? With more in it, more could be read. */
function isSealed(body) {
  return body?.e2e === 1 && Object.keys(body).length === 4 && [body.k, body.n, body.c].every((part) => typeof part === "string");
}
