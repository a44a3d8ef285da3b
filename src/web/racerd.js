// Talks to a racerd server: one socket, several rooms, by itself back after a loss. No DOM in it: it runs in a page and
// in Node (with the global WebSocket, or one passed in).
//
//     const client = connect({ base: "https://chat.example/", name: "ann" });
//     const room = client.join("lobby", { last: 50 });
//     room.on("message", (message) => console.log(message.from.name, message.body));
//     await room.send({ text: "hello" }).done;      // resolves when the server has acknowledged it
//
// After a loss it comes back as the same member: it resumes its session by a token, says what it has heard of each room,
// and sends again what was not acknowledged (racerd/room.js). With a `store` it does so over a reload, too (keep.js); the
// token goes there, to what is unsent, and into the socket, never into a URL. What other rooms and closed tabs left unsent
// is shown and sent by `unsent()` (racerd/unsent.js).
//
// With a `pin` it talks to the server that has this key, or to nobody (racerd/sealed.js). With a `roomKey` the server
// cannot read what is said in that room (racerd/room_key.js).

import { baseOf } from "./racerd/base.js";
import { isKey, utf8 } from "./racerd/bytes.js";
import { Emitter, RacerdError } from "./racerd/events.js";
import { Keep } from "./racerd/keep.js";
import { Pace } from "./racerd/pace.js";
import { askWhy } from "./racerd/refusal.js";
import { Room } from "./racerd/room.js";
import { Unsent } from "./racerd/unsent.js";

export { isKey, RacerdError, Room, Unsent };
export { newKey } from "./racerd/bytes.js";

/** What a room id may be. */
export const ROOM_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;
export const ROOM_RULE = "A room's name is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not “.” or “..”.";

// All in milliseconds; moments are those of `performance.now()`, since the date may be set meanwhile.
/** The longest pause between two tries. */
const LONGEST_PAUSE = 30_000;
/** A connection that lived so long was a good one: the pauses begin anew. */
const GOOD = 10_000;
/** After so much silence the server is asked whether it is there, and has so long to answer. */
const SILENCE = 30_000;
const ANSWER = 10_000;
const TICK = 5_000;
/** A token is made anew when it is old, with an answer: so one asks so often even where much is heard. */
const OLD = 3_600_000;
/** A handshake takes so long at most. */
const HANDSHAKE = 15_000;
/** Why upgrades are refused is asked so often at most. */
const WHY = 60_000;
/** Code that could not be loaded is asked for again after this. */
const RELOAD = 5000;
/** Where one is in the rooms is stored so long after it changed. */
const CALM = 1000;
/** A pause where the server names none; and the bounds of one that it names. */
const PAUSE = 2000;
const SHORTEST_PAUSE = 100;
const LONGEST_WISH = 3_600_000;
/** A server that has too much to do, or to bear, is left alone for so long. */
const OVERLOADED = 5000;

/** Bytes of what a line says beside bodies, at most. */
const ENVELOPE = 4096;

/** The session goes on elsewhere; a message is too long; too much to do. */
const [TAKEN_OVER, TOO_BIG, POLICY, TRY_LATER] = [4001, 1009, 1008, 1013];
/** Any code but 1000 and none leaves the session as it is, to be resumed. */
const COMING_BACK = 3000;

/** Close codes after which a client does not come back by itself. 4003 and 4005 are reserved: no server sends them yet. */
const FINAL = new Map([
  [TAKEN_OVER, "You are here in another window, which took over."],
  [4003, "A moderator has removed you."],
  [4005, "Your permission to be here has ended."],
]);

const NO_WEBSOCKET = "There is no WebSocket here. Node has one from version 22 on; with an older one, install the package ws and pass"
  + " its class: connect({ base, WebSocket }).";

/**
 * @typedef {object} Options
 * @property {string} base where the server is: `https://chat.example/`, or with a path of a proxy's; also the URL of a room
 * @property {string} [name] what one is called; else the server finds a name
 * @property {string[]} [formerly] members that this client was before (over a reload, say)
 * @property {string} [pin] the server's public key, base64url: all goes over a sealed socket, or not at all
 * @property {Store} [store] where the session is kept over a reload
 * @property {typeof WebSocket} [WebSocket] where there is no global one (Node before version 22): that of the package ws
 * @property {typeof fetch} [fetch]
 *
 * @typedef {object} Store
 * What it keeps belongs to one tab, and is a secret.
 * @property {() => object|null} load what was saved last
 * @property {(saved: object) => boolean|void} save throws, or gives false, where it could not be kept
 *
 * @typedef {object} State
 * @property {"idle"|"connecting"|"open"|"waiting"|"stopped"} phase
 * @property {number} [retryAt] by `performance.now()`, when waiting
 * @property {string} [reason] why, in words, where it is known
 * @property {boolean} [leaving] the server said that it goes, and is not back
 *
 * @param {Options} options
 * @returns {Client}
 */
export function connect(options) {
  return new Client({ ...options, base: baseOf(options.base) });
}

/**
 * What this browser has not sent: of other rooms, and of tabs that are closed; see racerd/unsent.js.
 * @param {{base: string, WebSocket?: typeof WebSocket, fetch?: typeof fetch}} options
 * @returns {Unsent}
 */
export function unsent(options) {
  const whole = { ...options, base: baseOf(options.base) };
  return new Unsent(whole, (more) => new Client({ ...whole, ...more }));
}

/**
 * Events: `state` (a State), `welcome`, `trouble` (a RacerdError that belongs to no promise), `storage` (as `storage`).
 */
export class Client extends Emitter {
  /** @type {State} */
  state = { phase: "idle" };
  /** What the server said of its bounds. */
  limits = null;
  /** Who one is, and was before: the ids of members. */
  member = null;
  formerly;
  name;

  #options;
  #rooms = new Map();
  #socket = null;
  /** The room that the socket's URL joins. */
  #inUrl = undefined;
  #requests = new Map();
  #nextId = 1;
  /** The class of sealed sockets, once it is loaded. */
  #SealedSocket = null;
  /** The token from before the server heard the name: not to be shown until it did. */
  #guestToken = null;
  /** Has the server heard the name, or need not? */
  #isNamed = true;
  /** The session, and what is kept of it over a reload. */
  #keep;
  /** Rooms that are joined only to send there what waits; and whether that is known to them yet. */
  #errands = new Map();
  /** How many rows are on their way to their rooms. */
  #restoring = 0;
  /** The session is another tab's: only what it left is sent. */
  #isErrand;
  /** The resume that is asked for, or was: its id, and the rooms that it named. */
  #resume = { id: undefined, rooms: new Set() };
  #saving = null;
  #whyAt = -Infinity;
  #askedAt = 0;
  #heard = 0;
  #openedAt = 0;
  #probe = null;
  #failures = 0;
  #unopened = 0;
  #byePause = null;
  #isLeaving = false;
  /** Why nothing is sent any more, once it is stopped or closed. */
  #end = null;
  /** Is a session begun whose token is not kept yet? */
  #binding = null;
  /** The longest send that was under way when a message was too big; and from where on none is sent, once that is clear. */
  #suspect = 0;
  #ceiling = Infinity;
  #retry = null;
  #ticker = null;
  #sending = null;
  #pausedUntil = 0;
  /** When sends may go out, so that the server need not refuse any. */
  #pace = new Pace(0);

  constructor(options) {
    super();
    if (options.pin !== undefined && !isKey(options.pin)) throw new RangeError("A pin is 43 characters of A-Z a-z 0-9 - _.");
    this.#options = { WebSocket: globalThis.WebSocket, fetch: globalThis.fetch?.bind(globalThis), ...options };
    const { store, base, name, pin, errand } = options;
    this.#keep = new Keep(store, { base, name, pin }, () => this.emit("storage", this.storage));
    this.#isErrand = errand !== undefined;
    if (errand) this.#keep.adopt(errand.outbox, errand.rows);
    this.name = options.name;
    this.formerly = new Set(options.formerly ?? []);
  }

  /** Most bytes of a request, once `limits` are known. */
  get longest() {
    return Math.min(this.limits.max_message_size, this.#ceiling, this.#isSealed ? this.#SealedSocket.longest : Infinity);
  }

  /**
   * Is it kept over a reload: the session (`store`), and what is unsent? null where that is not known yet.
   * @returns {{session: boolean|null, outbox: boolean|null}}
   */
  get storage() {
    return this.#keep.storage;
  }

  /** What owns this tab's rows, among those of `unsent()`. */
  get tab() {
    return this.#keep.tab;
  }

  /** How many sends are not settled. */
  get waiting() {
    return this.#sends().length + this.#restoring + this.#keep.unsent.filter(({ failed }) => !failed).length;
  }

  /** How many of these would be lost with the page. */
  get atRisk() {
    return this.#sends().filter(({ isKept }) => isKept !== true).length;
  }

  #sends() {
    return [...this.#rooms.values()].flatMap((room) => room._waiting);
  }

  /**
   * Joins a room, now and after every loss again, until it is left.
   * @param {string} id
   * @param {{last?: number, presence?: "full"|"count"|"off", roomKey?: string}} [options] how many of the newest messages
   *   to begin with; and the key under which all that is said is sealed
   * @returns {Room}
   */
  join(id, options = {}) {
    const known = this.#rooms.get(id);
    if (known && !this.#errands.has(known)) return known;
    if (!ROOM_ID.test(id)) throw new RangeError(ROOM_RULE);
    if (options.roomKey !== undefined && !isKey(options.roomKey)) throw new RangeError("A room's key is 43 characters of A-Z a-z 0-9 - _.");
    if (known) this.#yieldErrand(known);
    const room = this.#room(id, options);
    this.#restore(room);
    if (this.state.phase === "open") this.#joinByRequest(room);
    // Rooms that are joined in one go share the first handshake.
    else if (this.state.phase === "idle") queueMicrotask(() => this.state.phase === "idle" && this.#begin());
    return room;
  }

  #room(id, options) {
    const room = new Room(id, { last: 0, presence: "full", ...options }, this, {
      request: (value) => this.#request(value),
      tell: (value) => this.#tell(value),
      pump: () => this.#pump(),
      end: () => this.#end,
      forget: () => this.#rooms.get(id) === room && this.#rooms.delete(id),
      place: () => this.#keep.places[id],
      keep: (row) => this.#keep.add(row),
      drop: (key) => this.#keep.remove(key),
      fail: (key, error) => this.#keep.fail(key, error),
    });
    this.#rooms.set(id, room);
    return room;
  }

  /** Stores where one is by now: to be called when the page may go. */
  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    const places = {};
    for (const room of this.#rooms.values()) {
      if (this.#errands.has(room)) continue;
      const { id, cursor, epoch } = room;
      places[id] = cursor === null ? this.#keep.places[id] : { epoch, seq: cursor };
    }
    this.#keep.save(places);
  }

  /**
   * Looks at once whether all is well: to be called when the page is shown or the network is back. Waiting ends;
   * an open socket is asked, once for each silence.
   */
  check() {
    if (this.state.phase === "waiting") this.#open();
    else if (this.state.phase === "open") {
      if (this.#socket?.readyState > 1) return;
      if (!this.#probe && performance.now() - this.#heard > 1000) this.#ask();
    }
  }

  /** Tries at once, also after a final close; not after `close()`. */
  retry() {
    if (this.#end?.code === "closed" || !["waiting", "stopped"].includes(this.state.phase)) return;
    this.#end = null;
    this.#open();
  }

  /**
   * Ends it. What is not acknowledged fails; the outbox keeps it, and then the session is only left, to be resumed by the
   * next client with this store, which sends the rest, or by whoever finds it (`unsent()`).
   */
  close() {
    const isRest = this.#keep.rest !== null && this.waiting > 0;
    this.#stop(new RacerdError("closed", "the client was closed before this was acknowledged"), null, isRest ? COMING_BACK : undefined);
    this.#rooms.clear();
    this.#errands.clear();
    // Who comes again later begins with the newest, as the same member.
    this.save();
    this.#keep.close();
  }

  // The session over a reload.

  async #begin() {
    if (!this.#keep.isWanted) return this.#open();
    this.#set({ phase: "connecting" });
    const isStillWanted = () => this.state.phase === "connecting";
    await this.#keep.begin(isStillWanted);
    if (!isStillWanted()) return;
    // What was said in the meantime is here, and to be kept; it comes behind.
    for (const room of this.#rooms.values()) for (const send of room._waiting) if (send.body !== undefined) room._keep(send);
    for (const room of this.#rooms.values()) this.#restore(room);
    this.save();
    this.#open();
  }

  #restore(room) {
    const rows = this.#keep.take(room.id);
    if (rows.length === 0) return Promise.resolve();
    this.#restoring += rows.length;
    // Not before who joins has had the chance to listen.
    const restored = () => {
      this.#restoring -= rows.length;
      const isOpen = this.state.phase === "open";
      const judged = rows.map((row) => ({ row, fate: this.#keep.fate(row, isOpen) }));
      // Of another session, which never began: from now on it belongs to this one.
      this.#keep.move(judged.filter(({ fate }) => fate === "queued").map(({ row }) => row));
      room._restore(judged);
      if (isOpen) this.#pump();
    };
    return room._prepare().then(restored, () => {
      this.#restoring -= rows.length;
      this.#keep.unsent.push(...rows);
    });
  }

  /** Sends for another tab's session what that left, and emits `rest` when nothing of it waits any more. */
  _run() {
    if (this.state.phase === "idle") this.#open();
  }

  /** Goes to the rooms where something waits that nobody has joined; and leaves those where all is sent. */
  #runErrands() {
    if (this.state.phase !== "open") return;
    for (const [room, isRestored] of this.#errands) if (isRestored && room._waiting.length === 0) this.#endErrand(room);
    for (const row of this.#keep.unsent) {
      if (this.#keep.fate(row, true) === "ended") this.#keep.giveUp(row);
      if (row.failed || this.#rooms.has(row.room)) continue;
      const room = this.#room(row.room, { presence: "off" });
      this.#errands.set(room, false);
      this.#restore(room).then(() => this.#errands.has(room) && this.#errands.set(room, true));
      this.#joinByRequest(room);
    }
    if (this.#isErrand && this.#errands.size === 0 && this.waiting === 0) this.emit("rest");
  }

  #endErrand(room) {
    this.#errands.delete(room);
    room._leave();
  }

  /** Somebody joins the room of an errand: what waits goes over to the new one, under the same keys. */
  #yieldErrand(room) {
    const rows = this.#keep.rowsOf(room.id, room._waiting);
    this.#endErrand(room);
    this.#keep.unsent.push(...rows);
  }

  #saveSoon() {
    if (this.#keep.isWanted) this.#saving ??= setTimeout(() => this.save(), CALM);
  }

  // The socket.

  #open() {
    clearTimeout(this.#retry);
    const lacking = this.#lacking();
    if (lacking.length > 0) return void this.#load(lacking);
    // Who resumes is in no room before.
    [this.#inUrl] = this.#keep.token || this.#isSealed ? [] : this.#rooms.values();
    this.#resume = { id: undefined, rooms: new Set() };
    const url = this.#url();
    const { pin, WebSocket } = this.#options;
    if (typeof WebSocket !== "function") return this.#stop(new RacerdError("unsupported", NO_WEBSOCKET));
    this.#set({ phase: "connecting", leaving: this.#isLeaving });
    let socket;
    try {
      socket = this.#isSealed ? new this.#SealedSocket(url, pin, WebSocket) : new WebSocket(url, "racerd.v1");
    } catch (error) {
      return this.#stop(new RacerdError("unsupported", error.message));
    }
    this.#socket = socket;
    this.#byePause = null;
    this.#probe = null;
    this.#openedAt = 0;
    this.#isNamed = !this.#isSealed;
    this.#heard = performance.now();
    socket.onmessage = (event) => this.#socket === socket && this.#hear(event.data);
    socket.onclose = (event) => this.#socket === socket && this.#lost(event.code, event.final);
    socket.onerror = () => {};
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#tick(), TICK);
  }

  get #isSealed() {
    return this.#options.pin !== undefined;
  }

  /** The rooms whose code is not loaded yet; and what loads that of the socket. */
  #lacking() {
    const lacking = [...this.#rooms.values()].filter((room) => !room._isReady).map((room) => () => room._prepare());
    const load = async () => ({ SealedSocket: this.#SealedSocket } = await import("./racerd/sealed.js"));
    return this.#isSealed && !this.#SealedSocket ? [load, ...lacking] : lacking;
  }

  async #load(lacking) {
    this.#set({ phase: "connecting" });
    const { state } = this;
    try {
      await Promise.all(lacking.map((load) => load()));
    } catch {
      if (this.state === state) this.#wait(RELOAD, "What encrypts could not be loaded.");
      return;
    }
    for (const room of this.#rooms.values()) this.#restore(room);
    if (this.state === state) this.#open();
  }

  /** The socket's URL: of a room, which it joins; or of none. */
  #url() {
    const room = this.#inUrl;
    room?._ask();
    const query = new URLSearchParams(room ? room._start() : {});
    // Sealed, nothing is said outside: the name goes with the first join.
    if (this.name && !this.#isSealed) query.set("name", this.name);
    const url = new URL(room ? `rooms/${room.id}/ws` : "ws", this.#options.base);
    url.search = query;
    url.protocol = url.protocol.replace("http", "ws");
    return url.href;
  }

  #set(state) {
    this.state = state;
    this.emit("state", state);
  }

  #detach() {
    clearInterval(this.#ticker);
    clearTimeout(this.#retry);
    clearTimeout(this.#sending);
    const socket = this.#socket;
    this.#socket = null;
    const lost = new RacerdError("lost", "the connection was lost before the answer");
    for (const request of this.#requests.values()) request.reject?.(lost);
    this.#requests.clear();
    for (const room of this.#rooms.values()) room._lost();
    return socket;
  }

  /** Nothing is tried any more; what waits fails with this. The outbox keeps it. */
  #stop(error, reason = error.message, code) {
    this.#end = error;
    this.#detach()?.close(code);
    for (const room of this.#rooms.values()) room._end(error);
    this.#set({ phase: "stopped", reason });
  }

  async #lost(code, final = FINAL.get(code)) {
    const opened = this.#openedAt > 0;
    const good = opened && performance.now() - this.#openedAt > GOOD;
    if (code === TOO_BIG) this.#suspectLongest();
    this.#detach();
    if (final) {
      // Whoever took the session over has its rows, too.
      if (code === TAKEN_OVER) this.#keep.abandon();
      return this.#stop(new RacerdError(code === TAKEN_OVER ? "moved" : "refused", final));
    }
    this.#failures = good ? 0 : this.#failures + 1;
    this.#unopened = opened ? 0 : this.#unopened + 1;
    // Half of it is chance, so that all who lost the server do not come back in one moment.
    const longest = Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures);
    const ownPause = Math.round(longest * (0.5 + Math.random() / 2));
    const isOverloaded = code === POLICY || code === TRY_LATER;
    this.#wait(Math.max(ownPause, this.#byePause ?? 0, isOverloaded ? OVERLOADED : 0));
    // Why an upgrade is refused, a browser does not say; the same URL fetched does. A single one may be chance.
    if (this.#unopened >= 2 && performance.now() - this.#whyAt > WHY) await this.#askWhy();
  }

  #wait(wish, reason) {
    const pause = Math.min(wish, LONGEST_WISH);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), pause);
    this.#set({ phase: "waiting", retryAt: performance.now() + pause, leaving: this.#isLeaving, reason });
  }

  async #askWhy() {
    this.#whyAt = performance.now();
    const waiting = this.state;
    const why = await askWhy(this.#options.fetch, this.#url().replace("ws", "http"), this.#isSealed);
    if (!why || this.state !== waiting) return;
    if (why.isFinal) return this.#stop(new RacerdError("refused", why.text));
    this.#wait(Math.max(waiting.retryAt - performance.now(), why.pause), why.text);
  }

  /**
   * By times, not by ticks: those of a hidden page come once a minute, of a frozen one not at all. Any byte is life.
   * What came while the page slept is heard between two ticks; so one tick suspects, and only the next one judges.
   */
  #tick() {
    const now = performance.now();
    if (this.state.phase === "connecting") {
      if (now - this.#heard > HANDSHAKE) this.#giveUp();
    } else if (!this.#probe) {
      if (now - this.#heard > SILENCE || now - this.#askedAt > OLD) this.#ask();
    } else if (now - this.#probe.at > ANSWER) {
      if (this.#probe.suspect) this.#giveUp();
      else this.#probe.suspect = true;
    }
  }

  #ask() {
    this.#askedAt = performance.now();
    this.#probe = { at: this.#askedAt, suspect: false };
    this.#tell({ type: "ping" });
  }

  #giveUp() {
    // Its own close event may come minutes later.
    const socket = this.#socket;
    this.#lost(0);
    // If it arrives after all, the session goes on.
    socket?.close(COMING_BACK);
  }

  // What is said and heard.

  /** What is too long is not said: it would end the connection. */
  #tell(value) {
    const text = JSON.stringify(value);
    if (this.limits && utf8(text).length > this.longest) return;
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  #request(value) {
    return new Promise((resolve, reject) => {
      if (this.state.phase !== "open") return reject(new RacerdError("lost", "there is no connection"));
      const id = this.#nextId++;
      this.#requests.set(id, { resolve, reject });
      this.#tell({ ...value, id });
    });
  }

  #hear(text) {
    this.#heard = performance.now();
    this.#probe = null;
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return;
    }
    const room = this.#rooms.get(value.room);
    switch (value.type) {
      case "welcome": return this.#welcome(value);
      case "error": return this.#refused(value);
      case "bye":
        this.#isLeaving = true;
        return void (this.#byePause = value.reconnect_after_ms ?? null);
      case "pong":
        if (value.session) this.#renew(value.session);
        return this.#answer(value);
      case "joined": return this.#joined(value, room);
      case "ack": return this.#acknowledged(value);
      case "message":
        room?._message(value);
        return this.#saveSoon();
      case "signal": return room?._signal(value);
      case "presence": return room?._presence(value);
      case "members":
        room?._members(value);
        return this.#answer(value);
      case "lagging": return room?.emit("lagging", { behind: value.behind });
      case "gap": return room?._gap(value);
      // What is not known yet is passed over: that is how the protocol grows.
      default: return this.#answer(value);
    }
  }

  #answer(value) {
    const request = this.#requests.get(value.id);
    this.#requests.delete(value.id);
    request?.resolve?.(value);
  }

  #renew(token) {
    const isFirst = this.#keep.token === null;
    this.#keep.renew(token ?? null);
    this.save();
    if (isFirst) this.#bind();
  }

  #welcome(value) {
    if (this.#requests.has(value.id)) return this.#answer(value);
    // A join gave the name: the next token knows it.
    if (this.state.phase === "open") return this.#renew(value.session);
    this.#openedAt = performance.now();
    this.#unopened = 0;
    if (!this.#keep.token) return this.#isOpen(value, false);
    // Not ours yet: who one is comes with the answer to this. What lies behind each cursor is sent again, also what the
    // server had sent already: it may have been lost.
    const cursors = {};
    for (const room of this.#rooms.values()) {
      const place = room._place();
      if (place) cursors[room.id] = place;
    }
    const id = this.#nextId++;
    this.#resume = { id, rooms: new Set(Object.keys(cursors)) };
    const resolve = (answer) => this.#isOpen(answer, true);
    const reject = (error) => {
      if (error.code === "lost") return;
      if (error.code === "rate_limited" || error.code === "storage_unavailable") return this.#giveUp();
      this.#isOpen(value, false);
    };
    this.#requests.set(id, { resolve, reject });
    this.#tell({ type: "resume", id, session: this.#keep.token, cursors });
  }

  /** One is somebody now: who one was before, if the session was resumed. */
  #isOpen(value, isResumed) {
    this.member = value.member;
    this.formerly.add(value.member);
    this.name ??= value.name;
    this.#take(value.limits);
    this.#askedAt = performance.now();
    this.#isLeaving = false;
    if (isResumed) this.#isNamed = true;
    else this.#resume.rooms.clear();
    for (const room of this.#rooms.values()) isResumed ? room._resumed() : room._begun();
    // Where a join is to say the name, this token is a guest's, and who came back with it would be that guest for good. The
    // next one comes with the name, before `joined`; where none does, this one is good from then on.
    const isGuests = !isResumed && !this.#isNamed && value.name !== this.name;
    this.#guestToken = isGuests ? value.session : null;
    const token = isGuests ? null : value.session ?? null;
    if (!isResumed) this.#keep.change(new Set(this.#sends().map(({ key }) => key)), token);
    this.#renew(token);
    this.emit("welcome", value);
    this.#set({ phase: "open" });
    this.#bind();
    for (const room of this.#rooms.values()) {
      if (room === this.#inUrl || this.#resume.rooms.has(room.id)) continue;
      // The answer to an earlier join was lost, and perhaps what it began with: it is to begin again.
      if (room._ask() && isResumed) this.#leave(room.id);
      this.#joinByRequest(room);
    }
    this.#runErrands();
  }

  /** What the server says of its bounds. */
  #take(limits) {
    this.limits = limits;
    this.#pace = new Pace(limits.request_rate);
    // A message, or a page of the log that ends with one, and what stands around bodies.
    this.#socket.allow?.(limits.max_message_size + (limits.page_bytes ?? 0) + ENVELOPE);
    // Something was too big, though it was not longer than this: something on the way takes less.
    if (this.#suspect > 0 && this.#suspect <= limits.max_message_size) this.#ceiling = Math.min(this.#ceiling, this.#suspect - 1);
    this.#suspect = 0;
  }

  /** Nothing is sent before what is kept of it names the session: else another tab would take it for never sent. */
  #bind() {
    const { rest } = this.#keep;
    const binding = rest && {};
    this.#binding = binding;
    rest?.then((isKept) => {
      if (this.#binding !== binding) return;
      this.#binding = null;
      // What says something that is no longer true is better not kept.
      if (!isKept) for (const send of this.#sends()) this.#keep.remove(send.key), (send.isKept = false);
      this.#pump();
    });
  }

  #joined(value, room) {
    if (!this.#keep.token && this.#guestToken) this.#renew(this.#guestToken);
    const isAnswer = this.#requests.has(value.id);
    this.#answer(value);
    // Left while there was no connection, which the server could not know.
    if (!room) return isAnswer || this.#leave(value.room);
    // Here from an earlier join, and asked anew.
    if (!isAnswer && room !== this.#inUrl && !this.#resume.rooms.has(room.id) && !this.#errands.has(room)) return;
    room._joined(value);
    this.#saveSoon();
    this.#pump();
  }

  #leave(room) {
    this.#request({ type: "leave", room }).catch(() => {});
  }

  async #joinByRequest(room) {
    if (!room._isReady) {
      const socket = this.#socket;
      const prepared = await room._prepare().then(() => true, () => false);
      if (this.#socket !== socket || this.#rooms.get(room.id) !== room) return;
      if (!prepared) return this.#joinLater(room, RELOAD);
      this.#restore(room);
    }
    const naming = this.#isNamed ? {} : { name: this.name };
    this.#isNamed = true;
    try {
      await this.#request({ type: "join", room: room.id, ...room._start(), ...naming });
    } catch (error) {
      if (error.code === "lost" || room.joined || this.#rooms.get(room.id) !== room) return;
      if (naming.name) this.#isNamed = false;
      if (error.code === "already_joined" && this.#errands.has(room)) return;
      if (error.code === "already_joined") {
        // The session is there since before: closed while there was no connection, and begun anew. What it missed is
        // not known here, so it begins with the newest.
        this.#leave(room.id);
        return this.#joinByRequest(room);
      }
      this.emit("trouble", error);
      this.#joinLater(room, pauseOf(error));
    }
  }

  #joinLater(room, pause) {
    const socket = this.#socket;
    setTimeout(() => this.#socket === socket && !room.joined && this.#joinByRequest(room), pause);
  }

  #refused(value) {
    const error = new RacerdError(value.code, value.message, value);
    const request = this.#requests.get(value.id);
    this.#requests.delete(value.id);
    if (request?.send) {
      request.room._refused(request.send, error);
      if (error.code === "rate_limited" || error.code === "storage_unavailable") {
        this.#pausedUntil = performance.now() + pauseOf(error);
        this.emit("trouble", error);
      }
      this.#runErrands();
      return this.#pump();
    }
    if (request) return request.reject(error);
    this.emit("trouble", error);
    // Of the rooms that a resume named, the error does not say which.
    if (value.id !== undefined && value.id === this.#resume.id) {
      for (const id of this.#resume.rooms) if (this.#rooms.has(id)) this.#joinLater(this.#rooms.get(id), pauseOf(error));
    }
    // The room of the URL could not be joined: again, by request.
    const room = this.#inUrl;
    if (value.id === undefined && room && !room.joined && error.code === "storage_unavailable") this.#joinLater(room, pauseOf(error));
  }

  #acknowledged(value) {
    const request = this.#requests.get(value.id);
    this.#requests.delete(value.id);
    request?.room._acknowledged(request.send, value);
    this.#runErrands();
    this.#pump();
  }

  /** A message was too big for the server, or for something on the way: the longest of those under way is it. */
  #suspectLongest() {
    for (const { bytes } of this.#requests.values()) if (bytes > this.#suspect) this.#suspect = bytes;
  }

  /**
   * Sends what may be sent: in each room's order, no more at once and no faster than the server takes. What the server
   * refuses for now all the same may be overtaken by what it takes a moment later.
   */
  #pump() {
    if (this.state.phase !== "open" || this.#binding) return;
    clearTimeout(this.#sending);
    const later = (pause) => void (this.#sending = setTimeout(() => this.#pump(), pause));
    const pausedFor = this.#pausedUntil - performance.now();
    if (pausedFor > 0) return later(pausedFor);
    // Where it is not known how much gets through, one at a time: so it is seen which one does not.
    const most = this.#ceiling < this.limits.max_message_size ? 1 : this.limits.in_flight;
    let flying = 0;
    for (const request of this.#requests.values()) flying += request.send ? 1 : 0;
    for (const room of this.#rooms.values()) {
      while (flying < most && room._hasSend()) {
        const send = room._nextSend;
        const id = this.#nextId;
        const text = JSON.stringify({ type: "send", id, room: room.id, key: send.key, body: send.body });
        const bytes = utf8(text).length;
        if (bytes > this.longest) {
          room._fail(send, this.#tooLong(bytes));
          queueMicrotask(() => this.#runErrands());
          continue;
        }
        const pause = this.#pace.take();
        if (pause > 0) return later(pause);
        this.#nextId += 1;
        send.fate = "flying";
        this.#requests.set(id, { room, send, bytes });
        if (this.#socket.readyState === 1) this.#socket.send(text);
        flying += 1;
      }
    }
  }

  #tooLong(bytes) {
    const by = bytes - this.longest;
    const who = this.longest === this.#ceiling ? "something on the way to this server lets through"
      : this.longest < this.limits.max_message_size ? "one sealed message holds" : "this server takes";
    return new RacerdError("too_long", `it is ${by} ${by === 1 ? "byte" : "bytes"} longer than ${who}`);
  }
}

/** How long the server wants to be left alone. */
function pauseOf(error) {
  return Math.min(Math.max(error.retryAfter ?? PAUSE, SHORTEST_PAUSE), LONGEST_WISH);
}
