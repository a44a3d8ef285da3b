// A client of a racerd server, for pages and Node: several rooms over one socket, which reconnects by itself.
//
//     const client = connect({ base: "https://chat.example/", name: "ann" });
//     const room = client.join("lobby", { last: 50 });
//     room.on("message", (message) => console.log(message.from.name, message.body));
//     await room.send({ text: "hello" }).done;      // resolves when the server has acknowledged it
//
// After a loss it resumes its session by a token, continues each room where it stood, and sends again what was not
// acknowledged (racerd/room.js); with a `store`, also after a reload (racerd/saved.js). The token is in no URL.

import { isKey } from "./racerd/bytes.js";
import { COMING_BACK, Connection, pauseOf, RELOAD, TAKEN_OVER, TOO_BIG } from "./racerd/connection.js";
import { Deliveries } from "./racerd/deliveries.js";
import { Emitter, isForNow, RacerdError } from "./racerd/events.js";
import { Requests } from "./racerd/requests.js";
import { Room } from "./racerd/room.js";
import { SavedSession } from "./racerd/saved.js";
import { Unsent } from "./racerd/unsent.js";

export { isKey, RacerdError, Room, Unsent };
export { newKey } from "./racerd/bytes.js";

export const ROOM_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;
export const ROOM_RULE = "A room name is 1 to 64 of the characters A-Z a-z 0-9 . _ ~ - (but not “.” or “..”).";
const NOT_KNOWN = "The server does not know who you are.";
const KEY_RULE = "is 43 of the characters A-Z a-z 0-9 - _.";

/** Cursors are saved this many milliseconds after a change. */
const CALM = 1000;
/** The most bytes of a line apart from message bodies. */
const ENVELOPE = 4096;

/**
 * @typedef {object} Options
 * @property {string} base URL of the server, with a proxy's path if any; or of one of its rooms
 * @property {string} [name] otherwise the server makes one up
 * @property {string|(() => string|Promise<string>)} [token] by which the server knows who this is; it then gives the
 *   name. A function is asked at each connection, and once more when its token is refused or has ended
 * @property {string[]} [formerly] earlier member ids of this client (before a reload, say)
 * @property {string} [pin] the server's public key, base64url: everything goes over a sealed socket to that server only
 * @property {Store} [store] keeps the session across a reload
 * @property {typeof WebSocket} [WebSocket] default: the global one, which Node has from version 22 on
 * @property {typeof fetch} [fetch]
 *
 * @typedef {object} Store for one tab; its content is secret
 * @property {() => object|null} load returns what was saved last
 * @property {(saved: object) => boolean|void} save throws or returns false if it could not be kept
 *
 * @typedef {object} State
 * @property {"idle"|"connecting"|"open"|"waiting"|"stopped"} phase
 * @property {number} [retryAt] the time of the next attempt, by `performance.now()`
 * @property {string} [reason] in words, if it is known
 * @property {string} [warning] a server without the pinned key has answered, and none with it since
 * @property {boolean} [leaving] the server announced a shutdown and is not back yet
 *
 * @param {Options} options
 * @returns {Client}
 */
export function connect(options) {
  return new Client({ ...options, base: baseOf(options.base) });
}

/**
 * Lists and sends what other rooms and closed tabs left unsent; see racerd/unsent.js.
 * @param {{base: string, WebSocket?: typeof WebSocket, fetch?: typeof fetch}} options
 * @returns {Unsent}
 */
export function unsent(options) {
  const whole = { ...options, base: baseOf(options.base) };
  return new Unsent(whole, (more) => new Client({ ...whole, ...more }));
}

/** Returns the URL under which a server's rooms lie, ending in `/`. */
function baseOf(given) {
  const url = URL.canParse(given) ? new URL(given) : null;
  if (!/^https?:$/.test(url?.protocol)) throw new RangeError(`This is not the URL of a server (http:, https:): ${given}`);
  if (url.hash || url.search) throw new RangeError("A server's URL has no ? or #: pass `pin` to connect() and `roomKey` to join().");
  url.pathname = url.pathname.replace(/(\/rooms\/[^/]+)?\/?$/, "/");
  return url.href;
}

/** Emits `state` (a State), `welcome`, `storage` (as `storage`), `trouble` (a RacerdError of no promise). */
export class Client extends Emitter {
  /** The current member id, and all that this client has had. */
  member = null;
  formerly;
  name;

  #base;
  #connection;
  #requests;
  #deliveries;
  #saved;
  #rooms = new Map();
  /** The room that the socket's URL joins. */
  #inUrl = undefined;
  /** The last resume, and the rooms that it named. */
  #resume = { id: undefined, rooms: new Set() };
  /** The token of a session that does not have the name yet: not to be kept. */
  #guestToken = null;
  /** Is there no need to tell the name with a join? */
  #isNamed = true;
  /** The option `token`. */
  #source;
  /** The token shown last, and the one refused. */
  #shown = null;
  #refusedToken = null;
  /** Only delivers what another tab's session left. */
  #isDelivery;
  /** Set until the outbox names the current session. */
  #binding = null;
  #saving = null;

  constructor(options) {
    super();
    const { store, base, name, pin, token, delivery, formerly = [] } = options;
    if (pin !== undefined && !isKey(pin)) throw new RangeError(`A pin ${KEY_RULE}`);
    this.#base = base;
    this.#source = token;
    // With a token the server gives the name; nothing may be sealed under another one.
    this.name = token === undefined ? name : undefined;
    this.formerly = new Set(formerly);
    this.#saved = new SavedSession(store, { base, name, pin }, () => this.emit("storage", this.storage));
    this.#isDelivery = delivery !== undefined;
    if (delivery) this.#saved.adopt(delivery.outbox, delivery.rows);
    this.#connection = new Connection({ WebSocket: globalThis.WebSocket, fetch: globalThis.fetch?.bind(globalThis), ...options }, {
      changed: (state) => this.emit("state", state),
      loads: () => [...this.#rooms.values()].filter((room) => !room._isReady).map((room) => () => room._prepare()),
      loaded: () => this.#restoreAll(),
      url: () => this.#url(),
      token: () => this.#saved.token,
      renews: () => this.#renews(),
      heard: (value) => this.#hear(value),
      down: (code) => this.#down(code),
      ended: (error) => {
        for (const room of this.#rooms.values()) room._end(error);
      },
    });
    this.#requests = new Requests(this.#connection, {
      rooms: () => this.#rooms.values(),
      mayPump: () => !this.#binding,
      settled: () => this.#deliver(),
    });
    this.#deliveries = new Deliveries(this.#saved, {
      room: (id) => this.#room(id, { presence: "off" }),
      join: (room) => this.#joinByRequest(room),
      has: (id) => this.#rooms.has(id),
      isOpen: () => this.#connection.isOpen,
      pump: () => this.#requests.pump(),
    });
  }

  /** @returns {State} */
  get state() {
    return this.#connection.state;
  }

  /** As announced by the server; null before. */
  get limits() {
    return this.#requests.limits;
  }

  /** The most bytes of a request, once `limits` are known. */
  get longest() {
    return this.#requests.longest;
  }

  /**
   * Tells whether the session and unsent messages survive a reload; null while unknown.
   * @returns {{session: boolean|null, outbox: boolean|null}}
   */
  get storage() {
    return this.#saved.storage;
  }

  /** The `owner` of this tab's rows in `unsent()`. */
  get tab() {
    return this.#saved.tab;
  }

  /** The number of sends that are not settled. */
  get waiting() {
    return this.#sends().length + this.#deliveries.restoring + this.#saved.unsent.filter(({ failed }) => !failed).length;
  }

  /** The number of sends that would be lost if the page closed now. */
  get atRisk() {
    return this.#sends().filter(({ isKept }) => isKept !== true).length;
  }

  #sends() {
    return [...this.#rooms.values()].flatMap((room) => room._waiting);
  }

  /**
   * Joins a room, and again after every loss until it is left.
   * @param {{last?: number, presence?: "full"|"count"|"off", roomKey?: string}} [options] `last`: the number of newest
   *   messages to begin with; `roomKey`: seals bodies, so that the server cannot read them
   * @returns {Room}
   */
  join(id, options = {}) {
    const known = this.#rooms.get(id);
    if (known && !this.#deliveries.has(known)) return known;
    if (!ROOM_ID.test(id)) throw new RangeError(ROOM_RULE);
    if (options.roomKey !== undefined && !isKey(options.roomKey)) throw new RangeError(`A room key ${KEY_RULE}`);
    if (known) this.#deliveries.yield(known);
    const room = this.#room(id, options);
    this.#deliveries.restore(room);
    if (this.#connection.isOpen) this.#joinByRequest(room);
    // Rooms joined in one turn share the first handshake.
    else if (this.state.phase === "idle") queueMicrotask(() => this.state.phase === "idle" && this.#begin());
    return room;
  }

  #room(id, options) {
    const forget = () => this.#rooms.get(id) === room && this.#rooms.delete(id);
    const parts = { connection: this.#connection, requests: this.#requests, saved: this.#saved, forget };
    const room = new Room(id, { last: 0, presence: "full", ...options }, this, parts);
    this.#rooms.set(id, room);
    return room;
  }

  /** Saves the cursors at once: call it when the page may close. */
  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    const places = {};
    for (const room of this.#rooms.values()) {
      if (this.#deliveries.has(room)) continue;
      const { id, cursor, epoch } = room;
      places[id] = cursor === null ? this.#saved.places[id] : { epoch, seq: cursor };
    }
    this.#saved.save(places);
  }

  #saveSoon() {
    if (this.#saved.isWanted) this.#saving ??= setTimeout(() => this.save(), CALM);
  }

  /** Checks the connection at once: call it when the page is shown or the network is back. */
  check() {
    this.#connection.check();
  }

  /** Connects at once, also after a final close; not after `close()`. */
  retry() {
    this.#connection.retry();
  }

  /**
   * Closes the client; unacknowledged messages fail. Those in the outbox are sent by the next client with this store,
   * or by `unsent()`: the session stays resumable for them.
   */
  close() {
    const isRest = this.#saved.rest !== null && this.waiting > 0;
    const hasEnded = this.#connection.isOpen && !isRest;
    const error = new RacerdError("closed", "the client was closed before this was acknowledged");
    this.#connection.stop(error, null, isRest ? COMING_BACK : undefined);
    this.#rooms.clear();
    this.#deliveries.clear();
    // No token brings an ended session back. What is kept of another one has no cursors: a later client begins with the
    // newest messages, as the same member.
    if (hasEnded) this.#saved.end();
    this.save();
    this.#saved.close();
  }

  async #begin() {
    if (!this.#saved.isWanted) return this.#connection.open();
    this.#connection.connecting();
    const isStillWanted = () => this.state.phase === "connecting";
    await this.#saved.begin(isStillWanted);
    if (!isStillWanted()) return;
    // Messages sent in the meantime could not be kept before.
    for (const room of this.#rooms.values()) for (const send of room._waiting) if (send.body !== undefined) room._keep(send);
    this.#restoreAll();
    this.save();
    this.#connection.open();
  }

  #restoreAll() {
    for (const room of this.#rooms.values()) this.#deliveries.restore(room);
  }

  /** Starts to deliver what another tab left; emits `rest` when all is settled. */
  _run() {
    if (this.state.phase === "idle") this.#connection.open();
  }

  #deliver() {
    if (!this.#connection.isOpen) return;
    this.#deliveries.run();
    if (this.#isDelivery && this.#deliveries.size === 0 && this.waiting === 0) this.emit("rest");
  }

  #url() {
    const { isSealed } = this.#connection;
    // A client that resumes, or says first who it is, joins nothing before.
    const isLater = this.#saved.token || isSealed || this.#source !== undefined;
    [this.#inUrl] = isLater ? [] : this.#rooms.values();
    this.#resume = { id: undefined, rooms: new Set() };
    this.#isNamed = !isSealed || this.#source !== undefined;
    const room = this.#inUrl;
    room?._ask();
    const query = new URLSearchParams(room ? room._start() : {});
    // A sealed socket's URL tells nothing: the name goes with the first join.
    if (this.name && !isSealed && this.#source === undefined) query.set("name", this.name);
    const url = new URL(room ? `rooms/${room.id}/ws` : "ws", this.#base);
    url.search = query;
    url.protocol = url.protocol.replace("http", "ws");
    return url.href;
  }

  #down(code) {
    this.#requests.lose(code === TOO_BIG);
    for (const room of this.#rooms.values()) room._lost();
    // The other window has its rows, too.
    if (code === TAKEN_OVER) this.#saved.abandon();
  }

  #hear(value) {
    const room = this.#rooms.get(value.room);
    switch (value.type) {
      case "welcome": return this.#welcome(value);
      case "error": return this.#refused(value);
      case "bye": return this.#connection.leaving(value.reconnect_after_ms);
      case "pong":
        if (value.session) this.#renew(value.session);
        return this.#requests.answer(value);
      case "joined": return this.#joined(value, room);
      case "ack": return this.#acknowledged(value);
      case "message":
        room?._message(value);
        return this.#saveSoon();
      case "signal": return room?._signal(value);
      case "presence": return room?._presence(value);
      case "members":
        room?._members(value);
        return this.#requests.answer(value);
      case "lagging": return room?.emit("lagging", { behind: value.behind });
      case "gap": return room?._gap(value);
      case "left": return value.reason ? this.#removed(value, room) : this.#requests.answer(value);
      // Unknown types are ignored, so that the protocol can grow.
      default: return this.#requests.answer(value);
    }
  }

  #renew(token) {
    const isFirst = this.#saved.token === null;
    this.#saved.renew(token ?? null);
    this.save();
    if (isFirst) this.#bind();
  }

  #welcome(value) {
    if (this.#requests.has(value.id)) return this.#requests.answer(value);
    // Answers a join that told the name: the new token knows it.
    if (this.#connection.isOpen) return this.#renew(value.session);
    this.#connection.accepted();
    if (this.#source === undefined) this.#welcomed(value);
    else this.#authenticate();
  }

  /** Says who this is. `isAgain`: the token before this one was refused. */
  async #authenticate(isAgain = false) {
    const { socket } = this.#connection;
    const isFunction = typeof this.#source === "function";
    const token = isFunction ? await new Promise((resolve) => resolve(this.#source())).catch(() => undefined) : this.#source;
    if (this.#connection.socket !== socket || this.#connection.end) return;
    // Whoever cannot tell now may be able to later.
    if (token === undefined) return this.#connection.giveUp();
    if (typeof token !== "string" || token === this.#refusedToken) return this.#connection.stop(new RacerdError("unauthorized", NOT_KNOWN));
    this.#shown = token;
    const known = (answer) => {
      this.#refusedToken = null;
      this.#welcomed(answer);
    };
    const refused = (error) => {
      if (error.code === "lost") return;
      if (isForNow(error)) return this.#connection.giveUp();
      this.#refusedToken = token;
      if (isFunction && !isAgain) return void this.#authenticate(true);
      this.#connection.stop(new RacerdError("unauthorized", NOT_KNOWN));
    };
    this.#requests.expect({ type: "auth", token }, known, refused);
  }

  /** The token that was shown has ended: can there be another one? */
  #renews() {
    this.#refusedToken = this.#shown;
    return typeof this.#source === "function" && this.#shown !== null;
  }

  #welcomed(value) {
    if (!this.#saved.token) return this.#isOpen(value, false);
    // This welcome is for a new member; the answer to the resume names the old one.
    const cursors = {};
    for (const room of this.#rooms.values()) {
      const place = room._place();
      if (place) cursors[room.id] = place;
    }
    const resumed = (answer) => this.#isOpen(answer, true);
    const refused = (error) => {
      if (error.code === "lost") return;
      if (isForNow(error)) return this.#connection.giveUp();
      this.#isOpen(value, false);
    };
    const rooms = new Set(Object.keys(cursors));
    this.#resume = { id: this.#requests.expect({ type: "resume", session: this.#saved.token, cursors }, resumed, refused), rooms };
  }

  #isOpen(value, isResumed) {
    this.member = value.member;
    this.formerly.add(value.member);
    // Whoever is known has the name by which they are known.
    this.name = value.sub === undefined ? this.name ?? value.name : value.name;
    const { limits } = value;
    this.#requests.setLimits(limits);
    // The longest line is a message, or a page of history that ends with one, plus the fields around the bodies.
    this.#connection.allow(limits.max_message_size + (limits.page_bytes ?? 0) + ENVELOPE);
    if (isResumed) this.#isNamed = true;
    else this.#resume.rooms.clear();
    for (const room of this.#rooms.values()) isResumed ? room._resumed() : room._begun();
    // A client that resumed a guest's session would stay a guest. The join that tells the name brings another token,
    // before `joined`; if it does not, the guest's token is good after all.
    const isGuests = !isResumed && !this.#isNamed && value.name !== this.name;
    this.#guestToken = isGuests ? value.session : null;
    const token = isGuests ? null : value.session ?? null;
    if (!isResumed) this.#saved.change(new Set(this.#sends().map(({ key }) => key)), token);
    this.#renew(token);
    this.emit("welcome", value);
    this.#connection.opened();
    this.#bind();
    for (const room of this.#rooms.values()) {
      if (room === this.#inUrl || this.#resume.rooms.has(room.id)) continue;
      // The answer to an earlier join was lost, perhaps with the first messages: leave, to begin again.
      if (room._ask() && isResumed) this.#leave(room.id);
      this.#joinByRequest(room);
    }
    this.#deliver();
  }

  /** Holds messages back until the outbox names the session, lest another tab take them for never sent. */
  #bind() {
    const { rest } = this.#saved;
    const binding = rest && {};
    this.#binding = binding;
    rest?.then((isKept) => {
      if (this.#binding !== binding) return;
      this.#binding = null;
      // A row that could not be updated says something false, so it is removed.
      if (!isKept) for (const send of this.#sends()) this.#saved.remove(send.key), (send.isKept = false);
      this.#requests.pump();
    });
  }

  #joined(value, room) {
    if (!this.#saved.token && this.#guestToken) this.#renew(this.#guestToken);
    const isAnswer = this.#requests.has(value.id);
    this.#requests.answer(value);
    // The room was left while there was no connection, which the server could not know.
    if (!room) return isAnswer || this.#leave(value.room);
    // Answers an earlier join; the current one was sent again.
    if (!isAnswer && room !== this.#inUrl && !this.#resume.rooms.has(room.id) && !this.#deliveries.has(room)) return;
    room._joined(value);
    this.#saveSoon();
    this.#requests.pump();
  }

  #leave(room) {
    this.#requests.ask({ type: "leave", room }).catch(() => {});
  }

  async #joinByRequest(room) {
    if (!room._isReady) {
      const { socket } = this.#connection;
      const prepared = await room._prepare().then(() => true, () => false);
      if (this.#connection.socket !== socket || this.#rooms.get(room.id) !== room) return;
      if (!prepared) return this.#joinLater(room, RELOAD);
      this.#deliveries.restore(room);
    }
    const naming = this.#isNamed ? {} : { name: this.name };
    this.#isNamed = true;
    try {
      await this.#requests.ask({ type: "join", room: room.id, ...room._start(), ...naming });
    } catch (error) {
      if (error.code === "lost" || room.joined || this.#rooms.get(room.id) !== room) return;
      if (["unauthorized", "forbidden", "name_taken"].includes(error.code)) return room._remove(error);
      if (naming.name) this.#isNamed = false;
      if (error.code === "already_joined" && this.#deliveries.has(room)) return;
      if (error.code === "already_joined") {
        // An earlier client was closed without a connection. Begin with the newest messages.
        this.#leave(room.id);
        return this.#joinByRequest(room);
      }
      this.emit("trouble", error);
      this.#joinLater(room, pauseOf(error));
    }
  }

  /** The server has taken this client out of a room. */
  #removed({ id, reason }, room) {
    const error = new RacerdError(reason, "you may no longer read this room");
    this.#requests.take(id)?.reject?.(error);
    room?._remove(error);
  }

  #joinLater(room, pause) {
    const { socket } = this.#connection;
    setTimeout(() => this.#connection.socket === socket && !room.joined && this.#joinByRequest(room), pause);
  }

  #refused(value) {
    const error = new RacerdError(value.code, value.message, value);
    const request = this.#requests.take(value.id);
    if (request?.send) {
      request.room._refused(request.send, error);
      if (isForNow(error)) {
        this.#requests.pause(error);
        this.emit("trouble", error);
      }
      this.#deliver();
      return this.#requests.pump();
    }
    if (request) return request.reject(error);
    this.emit("trouble", error);
    // The error does not say which of the resume's rooms it concerns.
    if (value.id !== undefined && value.id === this.#resume.id) {
      for (const id of this.#resume.rooms) if (this.#rooms.has(id)) this.#joinLater(this.#rooms.get(id), pauseOf(error));
    }
    // The room of the URL could not be joined: join it by request.
    const room = this.#inUrl;
    if (value.id === undefined && room && !room.joined && error.code === "storage_unavailable") this.#joinLater(room, pauseOf(error));
  }

  #acknowledged(value) {
    const request = this.#requests.take(value.id);
    request?.room._acknowledged(request.send, value);
    this.#deliver();
    this.#requests.pump();
  }
}
