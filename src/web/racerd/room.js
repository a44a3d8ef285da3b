// One room as a client of racerd knows it: what it has seen of the log, who is there, and what is to be said. Sockets and
// requests are the client's (racerd.js); it hands in what came, and what may be done on the wire.
//
// Sending again after a loss. The server has no sessions yet: a key counts for the socket it came by, so a second try
// over a new socket could be stored twice. What was on its way when the socket went was stored or not; the log knows.
// So the room is joined again after the last seq that was seen, and what is caught up is searched for one's own:
// written by a member that this client was, with the same body, in the order of sending. Found is sent. Not found is
// sent again, but only when nothing of the old socket can come any more:
//   - the members' list does not have the old member (as long as it has, the server may still read the old socket);
//     in a room that tells counts only this cannot be seen;
//   - and SETTLE more has passed, in which the store commits what the server had taken already.
// A log that does not reach back (`recovered: false`) proves nothing: then the send fails, and a person decides.
// What stays open: a commit that takes longer than SETTLE, or an old socket that outlives OLD_SOCKET, gives a double.

import { Emitter, RacerdError } from "./events.js";

// In milliseconds.
/** Time for the store to commit what the server took from a socket that is gone. */
const SETTLE = 500;
/** How long an old socket of ours is waited for to be gone. */
const OLD_SOCKET = 5_000;

/**
 * A room that one is in. Its events:
 *   `joined`    {again, recovered, from, head}: what is new since the last time follows as messages
 *   `live`      all that was said before is here
 *   `message`   {seq, at, from: {member, name}, body, own, key}: in order, each once; `own` is said by oneself, `key`
 *               that of the `send` it comes from
 *   `hole`      {after, from, restart}: what lies between these seqs is not kept; with `restart` nothing before is,
 *               and seqs begin anew
 *   `members`   the list changed: see `members`, `count`
 *   `presence`  [{event: "join"|"leave", member, name}]: who came and went just now
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
  count = 0;

  #options;
  #client;
  #wire;
  /** What is not acknowledged, in order: {key, body, resolve, reject, fate: "queued"|"flying"|"unsure"}. */
  #outbox = [];
  #head = 0;
  #live = false;
  #joinedAt = 0;
  /** The members' list came, and it is one of names. */
  #named = false;
  /** When it was first seen that none of our old members is here. */
  #goneAt = null;
  #settling = null;
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
    const send = { key: this.#wire.key(), body, fate: "queued" };
    const done = new Promise((resolve, reject) => Object.assign(send, { resolve, reject }));
    this.#outbox.push(send);
    this.#wire.pump();
    return { key: send.key, done };
  }

  /** How many bytes a body is too long to be sent; 0 or less if it is not. Known once the server was heard. */
  excess(body) {
    const frame = { type: "send", id: 2 ** 53, room: this.id, key: "x".repeat(40), body };
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    return this.#client.limits ? bytes - this.#client.limits.max_message_size : 0;
  }

  /** Tells the others something that is not kept, if there is a connection. */
  signal(body) {
    if (this.joined) this.#wire.tell({ type: "signal", room: this.id, body });
  }

  /**
   * A page of the log, oldest message first.
   * @param {{before?: number, after?: number, limit?: number}} span
   * @returns {Promise<{messages: object[], oldest: number, more: boolean}>}
   */
  async history(span) {
    const page = await this.#wire.request({ type: "history", room: this.id, ...span });
    for (const message of page.messages) message.own = this.#client.formerly.has(message.from.member);
    return page;
  }

  /** Leaves for good. */
  leave() {
    this.#wire.tell({ type: "leave", room: this.id });
    this._abandon();
    this.#wire.forget();
  }

  // For the client.

  /** Where to begin and what to hear, as a join says it, by its fields or in the URL. */
  _start() {
    const { last, presence } = this.#options;
    const begin = this.cursor !== null ? { after: this.cursor, epoch: this.epoch } : last ? { last } : {};
    return presence === "full" ? begin : { ...begin, presence };
  }

  _joined({ epoch, head, from, recovered, members }) {
    const again = this.cursor !== null;
    const restart = again && (epoch !== this.epoch || (!recovered && from <= this.cursor));
    const after = this.cursor;
    this.joined = true;
    this.#live = false;
    this.#named = false;
    this.#head = head;
    this.#joinedAt = Date.now();
    this.#goneAt = null;
    this.epoch = epoch;
    this.cursor = from - 1;
    this.count = members;
    this.emit("joined", { again, recovered, from, head });
    if (restart) this.emit("hole", { after: 0, from, restart: true });
    else if (again && from > after + 1) this.emit("hole", { after, from, restart: false });
    if (!recovered) this.#giveUpUnsure();
    this.#progress();
  }

  _message(message) {
    const { seq, at, from, body } = message;
    if (seq <= this.cursor) return;
    if (seq > this.cursor + 1) this._gap({ after: this.cursor, from: seq });
    this.cursor = seq;
    const own = this.#client.formerly.has(from.member);
    const key = own ? this.#settled(message) : undefined;
    this.emit("message", { seq, at, from, body, own, key });
    this.#progress();
  }

  /** What of the outbox this message is, if it is one whose fate was open; it is stored then. */
  #settled({ seq, at, body }) {
    const index = this.#outbox.findIndex((send) => send.fate === "unsure" && isEqual(send.body, body));
    if (index >= 0) {
      const [send] = this.#outbox.splice(index, 1);
      send.resolve({ seq, at });
      return send.key;
    }
    const key = this.#acknowledgedKeys.get(seq);
    this.#acknowledgedKeys.delete(seq);
    return key;
  }

  _acknowledged(send, { seq, at }) {
    this.#outbox = this.#outbox.filter((other) => other !== send);
    if (seq > this.cursor) this.#acknowledgedKeys.set(seq, send.key);
    send.resolve({ seq, at });
  }

  _refused(send, error) {
    // Not stored, or perhaps stored: the same key is harmless over the same socket.
    if (error.code === "rate_limited" || error.code === "storage_unavailable") return void (send.fate = "queued");
    this.#outbox = this.#outbox.filter((other) => other !== send);
    send.reject(error);
  }

  /** May something be sent? Nothing overtakes what is unsure. */
  _hasSend() {
    return this.joined && this.#outbox.find((send) => send.fate !== "flying")?.fate === "queued";
  }

  /** The next to be sent, which then is under way. Only where `_hasSend`. */
  _nextSend() {
    const send = this.#outbox.find((send) => send.fate === "queued");
    send.fate = "flying";
    return send;
  }

  _lost() {
    for (const send of this.#outbox) if (send.fate === "flying") send.fate = "unsure";
    clearTimeout(this.#settling);
    this.#acknowledgedKeys.clear();
    if (!this.joined) return;
    this.joined = false;
    this.emit("down");
  }

  _abandon() {
    clearTimeout(this.#settling);
    this.joined = false;
    const closed = new RacerdError("closed", "the room was left before this was acknowledged");
    for (const send of this.#outbox.splice(0)) send.reject(closed);
  }

  _gap({ after, from }) {
    this.emit("hole", { after, from, restart: false });
    this.cursor = Math.max(this.cursor, from - 1);
    this.#progress();
  }

  _members({ count, members, more }) {
    this.members = new Map(members.map(({ member, name }) => [member, name]));
    this.count = count;
    this.#named = !more;
    this.emit("members");
    this.#progress();
  }

  _presence({ count, events }) {
    this.count = count;
    for (const { event, member, name } of events) {
      if (event === "leave") this.members.delete(member);
      else this.members.set(member, name);
    }
    // A room that grew large tells counts only, and the names would no longer be true.
    if (events.length === 0 && this.members.size !== count) {
      this.members.clear();
      this.#named = false;
    }
    if (events.length > 0) this.emit("presence", events);
    this.emit("members");
    this.#progress();
  }

  /** Something changed on the way from `joined` to live, and to the end of what is unsure. */
  #progress() {
    if (!this.joined || this.cursor < this.#head) return;
    if (!this.#live) {
      this.#live = true;
      this.emit("live");
    }
    if (!this.#outbox.some((send) => send.fate === "unsure")) return;
    const isThere = (member) => member !== this.#client.member && this.members.has(member);
    const isGone = this.#named && ![...this.#client.formerly].some(isThere);
    if (isGone) this.#goneAt ??= Date.now();
    const due = isGone ? this.#goneAt + SETTLE : this.#joinedAt + OLD_SOCKET;
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#sendUnsure(), due - Date.now());
  }

  #sendUnsure() {
    for (const send of this.#outbox) if (send.fate === "unsure") send.fate = "queued";
    this.#wire.pump();
  }

  #giveUpUnsure() {
    const unsure = this.#outbox.filter((send) => send.fate === "unsure");
    this.#outbox = this.#outbox.filter((send) => send.fate !== "unsure");
    const error = new RacerdError("unknown_fate", "the connection was lost, and the server's log does not show whether this was stored");
    for (const send of unsure) send.reject(error);
  }
}

/** Are two JSON values the same? */
function isEqual(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && isEqual(a[key], b[key]));
}
