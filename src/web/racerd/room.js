// One room as a client of racerd knows it: what it has seen of the log, who is there, and what is to be said. Sockets and
// requests are the client's (racerd.js); it hands in what came, and what may be done on the wire.
//
// Sending again after a loss. A key counts for the session, over all its sockets: so what was not acknowledged goes out
// again under the same key once the session is resumed, and the server stores it once. Where the session cannot be
// resumed, whether it was stored is not known: then it fails, and the user decides. What never went out is sent then, too.
// What failed is never sent again by itself, and stays in the outbox until it is forgotten.
//
// With a key, the server cannot read what is said: bodies are sealed before they are kept or sent, and opened when they
// come (room_key.js, which is loaded for that).

import { base64url, random, utf8 } from "./bytes.js";
import { Emitter, RacerdError } from "./events.js";
import { UNKNOWN } from "./keep.js";

/**
 * What waited so long in an open page, in milliseconds, is not sent any more by itself: nobody waits for it. Over a reload
 * no clock is asked, since it may have been set meanwhile: there it counts whether the server still resumes the session.
 */
const TOO_OLD = 7 * 86_400_000;
/** Keys are unguessable, so that nobody can use them up before: bytes. */
const KEY_BYTES = 16;

/**
 * A room that one is in. Its events:
 *   `joined`    {again, recovered, from, head}: what is new since the last time follows as messages
 *   `live`      all that was said before is here
 *   `message`   {seq, at, from: {member, name}, body, own, key}: in order, each once; `own` is said by oneself, `key`
 *               that of the `send` it comes from. `encrypted` if its body came sealed, and `unreadable` if it could
 *               not be opened (`body` is null then): "no_key", "wrong_key", "repeat", or "damaged" on the server's disk
 *   `repeat`    {seq}: of a message that was handed out before: an earlier one came that says the same, so it was the repeat
 *   `hole`      {after, from, restart}: what lies between these seqs is not kept; with `restart` nothing before is,
 *               and seqs begin anew
 *   `members`   the list changed: see `members`, `count`
 *   `presence`  [{event: "join"|"leave"|"away"|"back", member, name}]: who came and went just now
 *   `unsent`    {key, body, unreadable, done, name, at}: said before a reload, and not acknowledged then; as if it was sent
 *               now. `name` is its author's, `at` the date when it was said
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
  _isAsked = false;
  /**
   * What is not acknowledged, in order: {key, body, said, name, at, since, isKept, resolve, reject, fate:
   * "queued"|"flying"|"unsure"}. The body is as it is sent; undefined as long as `said` is not sealed. `since` is a time of
   * `performance.now()`, `at` a date.
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
   * @returns {{key: string, done: Promise<{seq: number, at: number}>, name: string|undefined, at: number}} `done` resolves
   *   with the acknowledgement; it rejects with the server's refusal, at the end of the session, when this room is left or
   *   the client closed. It waits for as long as the client tries to connect.
   */
  send(body) {
    const send = { key: base64url(random(KEY_BYTES)), name: this.#client.name, at: Date.now(), since: performance.now(), fate: "queued" };
    const made = this.#put(send);
    const end = this.#wire.end();
    if (end) return this.#drop(send, end), made;
    try {
      // What the caller changes later is not said; and what JSON cannot say is found before it is kept.
      send.said = JSON.parse(JSON.stringify(body ?? null));
    } catch (error) {
      return this.#drop(send, new RacerdError("bad_field", `this body cannot be written as JSON: ${error.message}`)), made;
    }
    if (this._isReady) this.#seal(send);
    this.#wire.pump();
    return made;
  }

  #put(send) {
    const done = new Promise((resolve, reject) => Object.assign(send, { resolve, reject }));
    this.#outbox.push(send);
    return { key: send.key, done, name: send.name, at: send.at };
  }

  /** Nothing is kept or sent before. */
  #seal(send) {
    send.body = this.#cipher ? this.#cipher.seal(send.said, send.key) : send.said;
    this._keep(send);
  }

  async _keep(send) {
    const { key, body, name, at } = send;
    send.isKept = await this.#wire.keep({ key, room: this.id, body, name, at });
  }

  /** It is not waited for any more. */
  #drop(send, error) {
    this.#outbox = this.#outbox.filter((other) => other !== send);
    send.reject(error);
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
    return this.#open(body, (cipher) => {
      const { said, repeat } = cipher.hear(body, seq);
      // After this one, so that it is known as the first.
      if (repeat !== undefined) queueMicrotask(() => this.emit("repeat", { seq: repeat }));
      return said;
    });
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
    const frame = { type: "send", id: 2 ** 53, room: this.id, key: "x".repeat(24), body: sent };
    return this.#client.limits ? utf8(JSON.stringify(frame)).length - this.#client.longest : 0;
  }

  /** Tells the others something that is not kept, if there is a connection and it is not too long. */
  signal(body) {
    if (!this.joined) return;
    const sent = this.#cipher ? this.#cipher.seal(body, base64url(random(KEY_BYTES))) : body;
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
    for (const { key } of this.#outbox) this.#wire.drop(key);
    this._leave();
  }

  // For the client.

  /** Leaves; what is not sent stays in the outbox. */
  _leave() {
    this.#wire.tell({ type: "leave", room: this.id });
    this._end(new RacerdError("closed", "the room was left before this was acknowledged"));
    this.#wire.forget();
  }

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
    const before = this._isAsked;
    this._isAsked = true;
    return before;
  }

  /** What is not settled. */
  get _waiting() {
    return this.#outbox;
  }

  /**
   * From before a reload, and before all that was said since.
   * @param {{row: object, fate: "queued"|"unsure"|"ended"|"failed"}[]} rows
   */
  _restore(rows) {
    const since = this.#outbox.splice(0);
    for (const { row, fate } of rows) {
      const { key, body, at, name, failed } = row;
      const send = { key, body, at, name, since: performance.now(), isKept: true, fate };
      const made = this.#put(send);
      made.done.catch(() => {});
      const { encrypted, ...opened } = this.#open(body, (cipher) => cipher.open(body));
      this.emit("unsent", { ...made, ...opened });
      if (fate === "failed") this.#drop(send, new RacerdError(failed.code, failed.message));
    }
    this.#giveUp(({ fate }) => fate === "ended", "unknown_fate", UNKNOWN);
    if (this.#cipher) this.#giveUp(({ body }) => !isSealed(body), "not_encrypted", "it was written before this room had a key");
    this.#outbox.push(...since);
  }

  /** The session goes on: under its keys all may be sent again. */
  _resumed() {
    for (const send of this.#outbox) send.fate = "queued";
    this.#giveUp(({ since }) => performance.now() - since > TOO_OLD, "too_old", "it has waited for more than a week");
  }

  /** Another session: its keys say nothing of what was sent before. */
  _begun() {
    this.#giveUp(({ fate }) => fate === "unsure", "unknown_fate", UNKNOWN);
    this._resumed();
  }

  #giveUp(which, code, text) {
    for (const send of this.#outbox.filter(which)) this._fail(send, new RacerdError(code, text));
  }

  /** It is not sent any more by itself; the user decides. */
  _fail(send, error) {
    this.#wire.fail(send.key, error);
    this.#drop(send, error);
  }

  _joined({ epoch, head, from, recovered, members }) {
    const again = this.cursor !== null;
    const restart = again && (epoch !== this.epoch || (!recovered && from <= this.cursor));
    const after = this.cursor;
    this.joined = true;
    this._isAsked = false;
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
    this._fail(send, error);
  }

  /** May something be sent? */
  _hasSend() {
    return this.joined && this._nextSend !== undefined;
  }

  /** The next to be sent. Only where `_hasSend`. */
  get _nextSend() {
    return this.#outbox.find((send) => send.fate === "queued");
  }

  _lost() {
    for (const send of this.#outbox) if (send.fate === "flying") send.fate = "unsure";
    this.#acknowledgedKeys.clear();
    if (!this.joined) return;
    this.joined = false;
    this.emit("down");
  }

  /** Nothing of it is waited for any more; the outbox keeps it. */
  _end(error) {
    this.joined = false;
    for (const send of this.#outbox.splice(0)) send.reject(error);
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

/** Is this the body of a message that only members can read? With more in it, more could be read. */
function isSealed(body) {
  return body?.e2e === 1 && Object.keys(body).length === 4 && [body.k, body.n, body.c].every((part) => typeof part === "string");
}
