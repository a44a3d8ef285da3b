// Tracks unanswered requests, and sends messages: in each room's order, no more at once and no faster than the server
// accepts.

import { utf8 } from "./bytes.js";
import { pauseOf } from "./connection.js";
import { RacerdError } from "./events.js";

/** A token bucket like the server's, which holds one second's worth. */
class Pace {
  #rate;
  #left;
  #at = performance.now();

  /** @param {number} rate requests a second; 0 is no limit */
  constructor(rate) {
    this.#rate = rate;
    this.#left = rate;
  }

  /** Takes one token. Returns 0, or the milliseconds until there is one. */
  take() {
    if (!this.#rate) return 0;
    const now = performance.now();
    const saved = Math.min(this.#rate, this.#left + ((now - this.#at) * this.#rate) / 1000);
    this.#left = saved >= 1 ? saved - 1 : saved;
    this.#at = now;
    return saved >= 1 ? 0 : Math.ceil(((1 - saved) * 1000) / this.#rate);
  }
}

export class Requests {
  limits = null;

  /** The unanswered requests by id: {resolve, reject}, or {room, send, bytes} for a message. */
  #all = new Map();
  #nextId = 1;
  #connection;
  #owner;
  #pace = new Pace(0);
  #pausedUntil = 0;
  #timer = null;
  /** The longest message in flight when one was too big; and the longest that may be sent since. */
  #suspect = 0;
  #ceiling = Infinity;

  /** `owner`: `rooms()`; `mayPump()`; `settled()` hears that a message failed before it was sent. */
  constructor(connection, owner) {
    this.#connection = connection;
    this.#owner = owner;
  }

  get longest() {
    return Math.min(this.limits.max_message_size, this.#ceiling, this.#connection.longest);
  }

  /** Sends without waiting for an answer. A request that is too long is dropped: it would end the connection. */
  tell(value) {
    const text = JSON.stringify(value);
    if (!this.limits || utf8(text).length <= this.longest) this.#connection.send(text);
  }

  ask(value) {
    if (!this.#connection.isOpen) return Promise.reject(new RacerdError("lost", "there is no connection"));
    return new Promise((resolve, reject) => this.expect(value, resolve, reject));
  }

  /** Sends a request, also while the session is not open. Returns its id. */
  expect(value, resolve, reject) {
    const id = this.#nextId++;
    this.#all.set(id, { resolve, reject });
    this.tell({ ...value, id });
    return id;
  }

  has(id) {
    return this.#all.has(id);
  }

  take(id) {
    const request = this.#all.get(id);
    this.#all.delete(id);
    return request;
  }

  answer(value) {
    this.take(value.id)?.resolve?.(value);
  }

  /** Fails all requests; messages stay with their rooms. */
  lose(isTooBig) {
    clearTimeout(this.#timer);
    // One of the messages in flight was too big: suspect the longest.
    if (isTooBig) for (const { bytes } of this.#all.values()) if (bytes > this.#suspect) this.#suspect = bytes;
    const lost = new RacerdError("lost", "the connection was lost before the answer");
    for (const { reject } of this.#all.values()) reject?.(lost);
    this.#all.clear();
  }

  setLimits(limits) {
    this.limits = limits;
    this.#pace = new Pace(limits.request_rate);
    // The suspect was within the server's limit, so something between here and the server allows less.
    if (this.#suspect > 0 && this.#suspect <= limits.max_message_size) this.#ceiling = Math.min(this.#ceiling, this.#suspect - 1);
    this.#suspect = 0;
  }

  pause(error) {
    this.#pausedUntil = performance.now() + pauseOf(error);
  }

  /** Sends what may be sent now. A message that was refused for now may be overtaken. */
  pump() {
    if (!this.#connection.isOpen || !this.#owner.mayPump()) return;
    clearTimeout(this.#timer);
    const later = (pause) => void (this.#timer = setTimeout(() => this.pump(), pause));
    const pausedFor = this.#pausedUntil - performance.now();
    if (pausedFor > 0) return later(pausedFor);
    // One at a time while the ceiling is being found, so that a close shows which message was too big.
    const most = this.#ceiling < this.limits.max_message_size ? 1 : this.limits.in_flight;
    let inFlight = [...this.#all.values()].filter(({ send }) => send).length;
    for (const room of this.#owner.rooms()) {
      while (inFlight < most && room._hasSend()) {
        const send = room._nextSend;
        const id = this.#nextId;
        const text = JSON.stringify({ type: "send", id, room: room.id, key: send.key, body: send.body });
        const bytes = utf8(text).length;
        if (bytes > this.longest) {
          room._fail(send, this.#tooLong(bytes));
          queueMicrotask(() => this.#owner.settled());
          continue;
        }
        const pause = this.#pace.take();
        if (pause > 0) return later(pause);
        this.#nextId += 1;
        send.state = "in_flight";
        this.#all.set(id, { room, send, bytes });
        this.#connection.send(text);
        inFlight += 1;
      }
    }
  }

  #tooLong(bytes) {
    const by = bytes - this.longest;
    const limit = this.longest === this.#ceiling ? "something between here and the server lets through"
      : this.longest < this.limits.max_message_size ? "one sealed message holds" : "this server accepts";
    return new RacerdError("too_long", `the message is ${by} ${by === 1 ? "byte" : "bytes"} longer than ${limit}`);
  }
}
