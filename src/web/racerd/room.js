// One room as a client sees it: the part of the log it has read, the members, and the messages to send.
//
// A key is valid within a session, over all its sockets. So once the session is resumed, an unacknowledged message is
// sent again under its key, and the server stores it once. In a new session, nobody knows whether it was stored: it
// fails, stays in the outbox, and the user decides. A message that was never sent goes out.

import { base64url, random, utf8 } from "./bytes.js";
import { isSealed } from "./encrypted.js";
import { Emitter, isForNow, RacerdError } from "./events.js";
import { UNKNOWN } from "./saved.js";

/**
 * A message that waited this long in an open page, in milliseconds, fails. After a reload only the server's decision to
 * resume the session counts, because the date may have been set meanwhile.
 */
const TOO_OLD = 7 * 86_400_000;
/** Random bytes of a key, so that nobody can guess the next ones and use them first. */
const KEY_BYTES = 16;

/**
 * A joined room. It emits
 *   `joined`    {again, recovered, from, head}: the messages since the last time follow
 *   `live`      all earlier messages have arrived
 *   `message`   {seq, at, from: {member, name}, body, own, key}: in order, each once; `own` if this client said it, `key`
 *               is that of its `send`. `encrypted` if its body came sealed. `unreadable` (and `body` null) if it could
 *               not be opened: "no_key", "other_key", "wrong_key" (that, or altered), "altered", "malformed", "forged"
 *               (a member continued another's stream), "repeat"; or "damaged" on the server's disk.
 *               In a room with a key: `marks` say what is to be distrusted: "name" (its author's, in `inside`, is
 *               another), "out_of_order", "old_form" (may be a repeat); or "again", known from the former log. `missing`
 *               of the author's messages, counted before it, are not above it. `inside` {name, sent, stream, counter}
 *               is what the author has signed; `sent` is a date
 *   `marked`    {seq, ...}: a message emitted before has other `marks`, `missing`, or is `unreadable`: older history
 *               shows it
 *   `hole`      {after, from, restart}: messages between these seqs are not kept; with `restart`, the log is a new one
 *   `members`   the list changed: see `members`, `count`
 *   `presence`  [{event: "join"|"leave"|"away"|"back", member, name}]
 *   `unsent`    {key, body, unreadable, done, name, at}: a message from before a reload, not acknowledged yet; `name` is
 *               its author's, `at` a date
 *   `signal`    {from, body}    `lagging` {behind}    `down`: the connection is lost
 *   `removed`   a RacerdError: the room may not, or no longer, be read; the client gives it up
 */
export class Room extends Emitter {
  id;
  joined = false;
  /** The last seq that was seen, and the log that it belongs to. */
  cursor = null;
  epoch = null;
  /** @type {Map<string, string>} names by member; empty if the server sends only the count */
  members = new Map();
  /** @type {Set<string>} the members whose connection is lost at the moment */
  away = new Set();
  count = 0;

  #options;
  #client;
  #connection;
  #requests;
  #saved;
  #forget;
  /** Opens bodies and seals them, by its cipher; null without a key, and until its code is loaded. */
  #reader = null;
  #loading = null;
  /** A join was sent and is not answered. */
  _isAsked = false;
  /**
   * The unacknowledged messages: {key, plain, body, name, at, since, isKept, isAgain, resolve, reject, state:
   * "queued"|"in_flight"|"unknown"}. `body` is undefined until `plain` is sealed; `since` is a time of
   * `performance.now()`; `isAgain`: the outbox has its row, with another body.
   */
  #outbox = [];
  #head = 0;
  #live = false;
  /** Why the room was given up; null while it was not. */
  #removed = null;
  /** The keys of acknowledged messages that have not arrived yet, by seq. */
  #acknowledgedKeys = new Map();

  /** `forget()` removes the room from its client. */
  constructor(id, options, client, { connection, requests, saved, forget }) {
    super();
    this.id = id;
    this.#options = options;
    this.#client = client;
    this.#connection = connection;
    this.#requests = requests;
    this.#saved = saved;
    this.#forget = forget;
  }

  /**
   * Sends a message to all members: as soon as there is a connection, and again after a loss unless it was stored.
   * @param {any} body a JSON value
   * @returns {{key: string, done: Promise<{seq: number, at: number}>, name: string|undefined, at: number}} `done`
   *   resolves with the acknowledgement. It rejects with the server's refusal, or when the session ends, the room is
   *   left, or the client is closed; it waits as long as the client tries to connect.
   */
  send(body) {
    const send = { key: base64url(random(KEY_BYTES)), name: this.#client.name, at: Date.now(), since: performance.now(), state: "queued" };
    const made = this.#put(send);
    const end = this.#removed ?? this.#connection.end;
    if (end) return this.#drop(send, end), made;
    try {
      // A copy: later changes by the caller have no effect, and a body that is not JSON is refused here.
      send.plain = JSON.parse(JSON.stringify(body ?? null));
    } catch (error) {
      return this.#drop(send, new RacerdError("bad_field", `the body is not JSON: ${error.message}`)), made;
    }
    if (this._isReady) this.#seal(send);
    this.#requests.pump();
    return made;
  }

  #put(send) {
    const done = new Promise((resolve, reject) => Object.assign(send, { resolve, reject }));
    this.#outbox.push(send);
    return { key: send.key, done, name: send.name, at: send.at };
  }

  /** Seals a message as soon as its author's name is known: the server names a guest. */
  #seal(send) {
    if (this.#reader && this.#client.name === undefined) return;
    send.name = this.#client.name;
    send.body = this.#reader ? this.#sealed(send.plain, send.key, "message") : send.plain;
    this._keep(send);
  }

  #sealAnew(send, plain) {
    Object.assign(send, { plain, body: undefined, isAgain: true });
    this.#seal(send);
  }

  #sealed(body, k, kind) {
    return this.#reader.cipher.seal(body, k, { kind, name: normal(this.#client.name) });
  }

  async _keep(send) {
    const { key, body, name, at, isAgain } = send;
    send.isKept = isAgain ? await this.#saved.write(key, { body, name }) : await this.#saved.add({ key, room: this.id, body, name, at });
  }

  #drop(send, error) {
    this.#outbox = this.#outbox.filter((other) => other !== send);
    send.reject(error);
  }

  /** Returns the fields of a body of this client, from before a reload. */
  #open(body) {
    if (!isSealed(body)) return { body };
    if (!this.#reader) return { body: null, unreadable: "no_key" };
    try {
      return { body: this.#reader.cipher.open(body, "message").body };
    } catch (error) {
      return { body: null, unreadable: error.code };
    }
  }

  /** Writes what was read of these messages into them, and emits what that says of others, once they were emitted. */
  #read(messages) {
    const whole = messages.filter((message) => {
      if (!message.unreadable) return true;
      Object.assign(message, { body: null, encrypted: false, unreadable: "damaged" });
    });
    if (!this.#reader) {
      for (const message of whole) {
        const encrypted = isSealed(message.body);
        Object.assign(message, encrypted ? { body: null, encrypted, unreadable: "no_key" } : { encrypted });
      }
      return messages;
    }
    for (const change of this.#reader.page(whole)) queueMicrotask(() => this.emit("marked", change));
    return messages;
  }

  /** Removes a failed message from the outbox, so that it does not come back after a reload. */
  forget(key) {
    this.#saved.remove(key);
  }

  get isEncrypted() {
    return this.#options.roomKey !== undefined;
  }

  /** Returns by how many bytes a body is too long; 0 or less if it fits, or before the limits are known. */
  excess(body) {
    const sent = this.#reader ? this.#reader.cipher.blank(body, normal(this.#client.name ?? "")) : body;
    const frame = { type: "send", id: 2 ** 53, room: this.id, key: "x".repeat(24), body: sent };
    return this.#client.limits ? utf8(JSON.stringify(frame)).length - this.#client.longest : 0;
  }

  /** Sends a signal, which is not stored; does nothing without a connection, or if it is too long. */
  signal(body) {
    if (!this.joined) return;
    const sent = this.#reader ? this.#sealed(body, base64url(random(KEY_BYTES)), "signal") : body;
    this.#requests.tell({ type: "signal", room: this.id, body: sent });
  }

  /**
   * Requests a page of the log, oldest message first.
   * @param {{before?: number, after?: number, limit?: number}} span
   * @returns {Promise<{messages: object[], oldest: number, more: boolean}>}
   */
  async history(span) {
    const page = await this.#requests.ask({ type: "history", room: this.id, ...span });
    for (const message of this.#read(page.messages)) message.own = this.#client.formerly.has(message.from.member);
    return page;
  }

  /** Leaves the room for good; unsent messages are dropped. */
  leave() {
    for (const { key } of this.#outbox) this.#saved.remove(key);
    this._leave();
  }

  /** Leaves the room; unsent messages stay in the outbox. */
  _leave() {
    this.#requests.tell({ type: "leave", room: this.id });
    this._end(new RacerdError("closed", "the room was left before this was acknowledged"));
    this.#forget();
  }

  /** Can bodies be sealed and opened? If not, await `_prepare` first. */
  get _isReady() {
    return !this.isEncrypted || this.#reader !== null;
  }

  async _prepare() {
    if (this._isReady) return;
    this.#loading ??= import("./reader.js");
    try {
      const { RoomReader } = await this.#loading;
      if (this._isReady) return;
      this.#reader = new RoomReader(this.#options.roomKey, this.id);
    } finally {
      this.#loading = null;
    }
    this.#sealAll();
  }

  #sealAll() {
    if (this._isReady) for (const send of this.#outbox) if (send.body === undefined) this.#seal(send);
  }

  _start() {
    const { last, presence } = this.#options;
    const begin = this.cursor !== null ? { after: this.cursor, epoch: this.epoch } : last ? { last } : {};
    return presence === "full" ? begin : { ...begin, presence };
  }

  /** Returns the fields of a resume; null if the room is to be joined. */
  _place() {
    const { last, presence } = this.#options;
    if (!this._isReady) return null;
    if (this.cursor !== null) return { epoch: this.epoch, seq: this.cursor, presence };
    // After a reload, the `last` messages are shown again.
    const kept = this.#saved.places[this.id];
    return kept ? { epoch: kept.epoch, seq: Math.max(0, kept.seq - last), presence } : null;
  }

  /**
   * Notes a join. Returns whether an earlier one is unanswered, so that the server may have joined the client already.
   */
  _ask() {
    const before = this._isAsked;
    this._isAsked = true;
    return before;
  }

  get _waiting() {
    return this.#outbox;
  }

  /**
   * Restores messages from before a reload, ahead of all that were said since.
   * @param {{row: object, state: "queued"|"unknown"|"ended"|"failed"}[]} rows
   */
  _restore(rows) {
    const since = this.#outbox.splice(0);
    for (const { row, state } of rows) {
      const { key, body, at, name, failed } = row;
      const send = { key, body, at, name, since: performance.now(), isKept: true, state };
      const made = this.#put(send);
      made.done.catch(() => {});
      const opened = this.#open(body);
      this.emit("unsent", { ...made, ...opened });
      if (state === "failed") this.#drop(send, new RacerdError(failed.code, failed.message));
      // It was never sent, so it need not keep its bytes.
      else if (row.token === null && isSealed(body) && !opened.unreadable) this.#sealAnew(send, opened.body);
    }
    // The old form is written no more. Whether this one was stored, nobody knows.
    this.#giveUp(({ body }) => body?.e2e === 1, "unknown_fate", UNKNOWN);
    this.#giveUp(({ state }) => state === "ended", "unknown_fate", UNKNOWN);
    if (this.#reader) this.#giveUp(({ body }) => body !== undefined && !isSealed(body), "not_encrypted", "it was written before this room had a key");
    this.#outbox.push(...since);
  }

  /** Sends everything again: the session goes on, so its keys are valid. */
  _resumed() {
    for (const send of this.#outbox) send.state = "queued";
    this.#sealAll();
    this.#giveUp(({ since }) => performance.now() - since > TOO_OLD, "too_old", "it has waited for more than a week");
  }

  /** Fails messages that were in flight: in a new session their keys are worthless. */
  _begun() {
    this.#giveUp(({ state }) => state === "unknown", "unknown_fate", UNKNOWN);
    this._resumed();
  }

  #giveUp(which, code, text) {
    for (const send of this.#outbox.filter(which)) this._fail(send, new RacerdError(code, text));
  }

  /** Fails a message: only the user sends it again. */
  _fail(send, error) {
    this.#saved.fail(send.key, error);
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
      this.#reader?.restart();
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
    const { body, unreadable } = message;
    const [read] = this.#read([{ seq, at, from, body, unreadable }]);
    this.emit("message", { ...read, own: this.#client.formerly.has(from.member), key });
    this.#progress();
  }

  /** In a room with a key, a signal that is not sealed under it is ignored. */
  _signal({ from, body }) {
    const read = this.#reader ? this.#reader.signal({ from, body }) : !isSealed(body) && { said: body };
    if (read) this.emit("signal", { from, body: read.said });
  }

  _acknowledged(send, { seq, at }) {
    this.#outbox = this.#outbox.filter((other) => other !== send);
    this.#saved.remove(send.key);
    if (seq > this.cursor) this.#acknowledgedKeys.set(seq, send.key);
    send.resolve({ seq, at });
  }

  _refused(send, error) {
    // Whether it was stored or not, sending it again under the same key is harmless.
    if (isForNow(error)) return void (send.state = "queued");
    this._fail(send, error);
  }

  _hasSend() {
    return this.joined && this._nextSend !== undefined;
  }

  get _nextSend() {
    return this.#outbox.find((send) => send.state === "queued");
  }

  _lost() {
    for (const send of this.#outbox) if (send.state === "in_flight") send.state = "unknown";
    this.#acknowledgedKeys.clear();
    if (!this.joined) return;
    this.joined = false;
    this.emit("down");
  }

  /** Fails all messages; the outbox keeps them. */
  _end(error) {
    this.joined = false;
    for (const send of this.#outbox.splice(0)) send.reject(error);
  }

  /** Gives the room up: joining it again is of no use before somebody else has changed something. */
  _remove(error) {
    this.#removed = error;
    this._end(error);
    this.#forget();
    this.emit("removed", error);
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
    // In a large room the server sends only counts, and the known names would become wrong.
    if (events.length === 0 && this.members.size !== count) {
      this.members.clear();
      this.away.clear();
    }
    if (events.length > 0) this.emit("presence", events);
    this.emit("members");
  }

  /** Emits `live` once all messages up to the head at the join have arrived. */
  #progress() {
    if (this.#live || !this.joined || this.cursor < this.#head) return;
    this.#live = true;
    this.emit("live");
  }
}

/** Returns a name as the server writes it, so that what is sealed is no other. */
function normal(name) {
  return name.replace(/\p{Zs}+/gu, " ").replace(/^ | $/g, "");
}
