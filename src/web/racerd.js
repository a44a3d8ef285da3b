// Talks to a racerd server: one socket, several rooms, by itself back after a loss. No DOM in it: it runs in a page and
// in Node (with the global WebSocket, or one passed in).
//
//     const client = connect({ base: "https://chat.example/", name: "ann" });
//     const room = client.join("lobby", { last: 50 });
//     room.on("message", (message) => console.log(message.from.name, message.body));
//     await room.send({ text: "hello" }).done;      // resolves when the server has acknowledged it
//
// After a loss it comes back as the same member: it resumes its session by a token, says what it has heard of each room,
// and sends again what was not acknowledged (racerd/room.js). With a `store` it does so over a reload, too; the token
// goes there and into the socket, never into a URL.
//
// With a `pin` it talks to the server that has this key, or to nobody (racerd/sealed.js). With a `roomKey` the server
// cannot read what is said in that room (racerd/room_key.js). What the two take is loaded when it is needed.

import { isKey } from "./racerd/bytes.js";
import { Emitter, RacerdError } from "./racerd/events.js";
import { takeLease } from "./racerd/lease.js";
import { Outbox } from "./racerd/outbox.js";
import { Pace } from "./racerd/pace.js";
import { askWhy } from "./racerd/refusal.js";
import { Room } from "./racerd/room.js";

export { isKey, RacerdError, Room };
export { newKey } from "./racerd/bytes.js";

/** What a room id may be. */
export const ROOM_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;
export const ROOM_RULE = "A room's name is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not “.” or “..”.";

// All in milliseconds.
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

/** Close codes after which a client does not come back by itself. */
const FINAL = new Map([
  [4001, "You are here in another window, which took over."],
  [4003, "A moderator has removed you."],
  [4005, "Your permission to be here has ended."],
]);

/**
 * @typedef {object} Options
 * @property {string} base where the server is: `https://chat.example/`, or with a path of a proxy's, ending in `/`
 * @property {string} [name] what one is called; else the server finds a name
 * @property {string[]} [formerly] members that this client was before (over a reload, say)
 * @property {string} [pin] the server's public key, base64url: all goes over a sealed socket, or not at all
 * @property {Store} [store] where the session is kept over a reload
 * @property {typeof WebSocket} [WebSocket]
 * @property {typeof fetch} [fetch]
 *
 * @typedef {object} Store
 * What it keeps belongs to one tab, and is a secret.
 * @property {() => object|null} load what was saved last
 * @property {(saved: object) => void} save
 *
 * @typedef {object} State
 * @property {"idle"|"connecting"|"open"|"waiting"|"stopped"} phase
 * @property {number} [retryAt] by `Date.now()`, when waiting
 * @property {string} [reason] why, in words, where it is known
 * @property {boolean} [leaving] the server said that it goes
 *
 * @param {Options} options
 * @returns {Client}
 */
export function connect(options) {
  return new Client(options);
}

/**
 * Events: `state` (a State), `welcome`, `trouble` (a RacerdError that belongs to no promise).
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
  #keys = randomText(12);
  #nextKey = 1;
  /** What the session is resumed by, and where one was in its rooms before the page was loaded. */
  #token = null;
  #places = {};
  /** The class of sealed sockets, once it is loaded. */
  #SealedSocket = null;
  /** The token from before the server heard the name: not to be shown until it did. */
  #guestToken = null;
  /** Has the server heard the name, or need not? */
  #isNamed = true;
  /** What tells this tab from others: it owns the session and its part of the outbox. */
  #tab = randomText(12);
  #release = null;
  #outbox = null;
  /** What the outbox has for rooms that are not joined yet. */
  #unsent = [];
  /** The resume that is asked for, or was: its id, and the rooms that it named. */
  #resume = { id: undefined, rooms: new Set() };
  /** The session is the one that was found at the start. */
  #goesOn = false;
  #wasFound = false;
  #saving = null;
  #whyAt = -Infinity;
  #askedAt = 0;
  #heard = 0;
  #openedAt = 0;
  #probe = null;
  #failures = 0;
  #unopened = 0;
  #byePause = null;
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
    this.name = options.name;
    this.formerly = new Set(options.formerly ?? []);
  }

  /** Most bytes of a request, once `limits` are known. */
  get longest() {
    return Math.min(this.limits.max_message_size, this.#isSealed ? this.#SealedSocket.longest : Infinity);
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
    if (known) return known;
    if (!ROOM_ID.test(id)) throw new RangeError(ROOM_RULE);
    if (options.roomKey !== undefined && !isKey(options.roomKey)) throw new RangeError("A room's key is 43 characters of A-Z a-z 0-9 - _.");
    const room = new Room(id, { last: 0, presence: "full", ...options }, this, {
      request: (value) => this.#request(value),
      tell: (value) => this.#tell(value),
      pump: () => this.#pump(),
      key: () => `${this.#keys}-${this.#nextKey++}`,
      forget: () => this.#rooms.delete(id),
      place: () => this.#places[id],
      keep: (entry) => this.#outbox?.add(entry),
      drop: (key) => this.#outbox?.remove(key),
    });
    this.#rooms.set(id, room);
    this.#restore(room);
    if (this.state.phase === "open") this.#joinByRequest(room);
    // Rooms that are joined in one go share the first handshake.
    else if (this.state.phase === "idle") queueMicrotask(() => this.state.phase === "idle" && this.#begin());
    return room;
  }

  /** Stores where one is by now: to be called when the page may go. */
  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    if (!this.#options.store || !this.#outbox) return;
    const places = {};
    for (const { id, cursor, epoch } of this.#rooms.values()) {
      places[id] = cursor === null ? this.#places[id] : { epoch, seq: cursor };
    }
    const { name, pin } = this.#options;
    this.#options.store.save({ tab: this.#tab, token: this.#token, name, pin, places });
  }

  /**
   * Looks at once whether all is well: to be called when the page is shown or the network is back. Waiting ends;
   * an open socket is asked, once for each silence.
   */
  check() {
    if (this.state.phase === "waiting") this.#open();
    else if (this.state.phase === "open") {
      if (this.#socket?.readyState > 1) return;
      if (!this.#probe && Date.now() - this.#heard > 1000) this.#ask();
    }
  }

  /** Tries at once, also after a final close. */
  retry() {
    if (this.state.phase === "waiting" || this.state.phase === "stopped") this.#open();
  }

  /** Ends it. What is not acknowledged fails; an outbox keeps it for the next time. */
  close() {
    this.#stop(undefined);
    for (const room of this.#rooms.values()) room._abandon();
    this.#rooms.clear();
    // Who comes again later begins with the newest, as the same member.
    this.save();
    this.#outbox?.close();
    this.#release?.();
    this.#outbox = this.#release = null;
  }

  // The session over a reload.

  async #begin() {
    if (!this.#options.store) return this.#open();
    this.#set({ phase: "connecting" });
    const saved = this.#options.store.load();
    // Of a duplicated tab, this is the session of the other one, which goes on using it.
    let release = typeof saved?.tab === "string" ? await takeLease(saved.tab) : null;
    if (release) {
      this.#tab = saved.tab;
      // A session has its name for good; and what was sealed is not shown to whom the pin does not name.
      if (saved.name === this.#options.name && saved.pin === this.#options.pin) {
        this.#token = saved.token ?? null;
        this.#wasFound = this.#token !== null;
        this.#places = saved.places ?? {};
      }
    } else {
      release = await takeLease(this.#tab);
    }
    const outbox = await Outbox.open(this.#options.pin ? `${this.#tab}.${this.#options.pin}` : this.#tab);
    const unsent = await outbox.entries();
    if (this.state.phase !== "connecting") {
      // It was closed meanwhile.
      outbox.close();
      return release?.();
    }
    this.#release = release;
    // What was said in the meantime is here, and to be kept; it comes behind.
    for (const room of this.#rooms.values()) for (const entry of room._entries()) outbox.add(entry);
    this.#outbox = outbox;
    this.#unsent = unsent;
    for (const room of this.#rooms.values()) this.#restore(room);
    this.save();
    this.#open();
  }

  #restore(room) {
    const entries = this.#unsent.filter((entry) => entry.room === room.id);
    if (entries.length === 0) return;
    this.#unsent = this.#unsent.filter((entry) => entry.room !== room.id);
    // Not before who joins has had the chance to listen.
    const restored = () => {
      room._restore(entries);
      if (this.state.phase !== "open") return;
      this.#goesOn ? room._resumed() : room._begun();
      this.#pump();
    };
    room._prepare().then(restored, () => this.#unsent.push(...entries));
  }

  #saveSoon() {
    if (this.#options.store) this.#saving ??= setTimeout(() => this.save(), CALM);
  }

  // The socket.

  #open() {
    clearTimeout(this.#retry);
    const lacking = this.#lacking();
    if (lacking.length > 0) return void this.#load(lacking);
    // Who resumes is in no room before.
    [this.#inUrl] = this.#token || this.#isSealed ? [] : this.#rooms.values();
    this.#resume = { id: undefined, rooms: new Set() };
    const url = this.#url();
    this.#set({ phase: "connecting" });
    let socket;
    try {
      const { pin, WebSocket } = this.#options;
      socket = this.#isSealed ? new this.#SealedSocket(url, pin, WebSocket) : new WebSocket(url, "racerd.v1");
    } catch (error) {
      return this.#stop(error.message);
    }
    this.#socket = socket;
    this.#byePause = null;
    this.#probe = null;
    this.#openedAt = 0;
    this.#isNamed = !this.#isSealed;
    this.#heard = Date.now();
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
      if (this.state === state) this.#wait(RELOAD, false, "What encrypts could not be loaded.");
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

  #stop(reason) {
    this.#detach()?.close();
    this.#set({ phase: "stopped", reason });
  }

  async #lost(code, final = FINAL.get(code)) {
    const opened = this.#openedAt > 0;
    const good = opened && Date.now() - this.#openedAt > GOOD;
    this.#detach();
    if (final) return this.#set({ phase: "stopped", reason: final });
    this.#failures = good ? 0 : this.#failures + 1;
    this.#unopened = opened ? 0 : this.#unopened + 1;
    // Half of it is chance, so that all who lost the server do not come back in one moment.
    const longest = Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures);
    let pause = this.#byePause ?? Math.round(longest * (0.5 + Math.random() / 2));
    if (code === 1008 || code === 1013) pause = Math.max(pause, 5000);
    this.#wait(pause, this.#byePause !== null);
    // Why an upgrade is refused, a browser does not say; the same URL fetched does. A single one may be chance.
    if (this.#unopened >= 2 && Math.abs(Date.now() - this.#whyAt) > WHY) await this.#askWhy();
  }

  #wait(pause, leaving = false, reason) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), pause);
    this.#set({ phase: "waiting", retryAt: Date.now() + pause, leaving, reason });
  }

  async #askWhy() {
    this.#whyAt = Date.now();
    const waiting = this.state;
    const why = await askWhy(this.#options.fetch, this.#url().replace("ws", "http"), this.#isSealed);
    if (!why || this.state !== waiting) return;
    if (why.isFinal) return this.#stop(why.text);
    this.#wait(Math.max(waiting.retryAt - Date.now(), why.pause), false, why.text);
  }

  /**
   * By times, not by ticks: those of a hidden page come once a minute, of a frozen one not at all. Any byte is life.
   * What came while the page slept is heard between two ticks; so one tick suspects, and only the next one judges.
   */
  #tick() {
    const now = Date.now();
    // The clock may be set back.
    this.#heard = Math.min(this.#heard, now);
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
    this.#askedAt = Date.now();
    this.#probe = { at: Date.now(), suspect: false };
    this.#tell({ type: "ping" });
  }

  #giveUp() {
    // Its own close event may come minutes later.
    const socket = this.#socket;
    this.#lost(0);
    socket?.close();
  }

  // What is said and heard.

  #tell(value) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(value));
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
    this.#heard = Date.now();
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
      case "bye": return void (this.#byePause = value.reconnect_after_ms ?? null);
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
    this.#token = token ?? null;
    this.save();
  }

  #welcome(value) {
    if (this.#requests.has(value.id)) return this.#answer(value);
    // A join gave the name: the next token knows it.
    if (this.state.phase === "open") return this.#renew(value.session);
    this.#openedAt = Date.now();
    this.#unopened = 0;
    if (!this.#token) return this.#isOpen(value, false);
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
    this.#tell({ type: "resume", id, session: this.#token, cursors });
  }

  /** One is somebody now: who one was before, if the session was resumed. */
  #isOpen(value, isResumed) {
    this.member = value.member;
    this.formerly.add(value.member);
    this.name ??= value.name;
    this.limits = value.limits;
    this.#pace = new Pace(value.limits.request_rate);
    this.#askedAt = Date.now();
    if (isResumed) this.#isNamed = true;
    else this.#resume.rooms.clear();
    this.#goesOn = isResumed && (this.#goesOn || this.#wasFound);
    this.#wasFound = false;
    for (const room of this.#rooms.values()) isResumed ? room._resumed() : room._begun();
    // Where a join is to say the name, this token is a guest's, and who came back with it would be that guest for good. The
    // next one comes with the name, before `joined`; where none does, this one is good from then on.
    const isGuests = !isResumed && !this.#isNamed && value.name !== this.name;
    this.#guestToken = isGuests ? value.session : null;
    this.#renew(isGuests ? null : value.session);
    this.emit("welcome", value);
    this.#set({ phase: "open" });
    for (const room of this.#rooms.values()) {
      if (room === this.#inUrl || this.#resume.rooms.has(room.id)) continue;
      // The answer to an earlier join was lost, and perhaps what it began with: it is to begin again.
      if (room._ask() && isResumed) this.#leave(room.id);
      this.#joinByRequest(room);
    }
  }

  #joined(value, room) {
    if (!this.#token && this.#guestToken) this.#renew(this.#guestToken);
    const isAnswer = this.#requests.has(value.id);
    this.#answer(value);
    // Left while there was no connection, which the server could not know.
    if (!room) return isAnswer || this.#leave(value.room);
    // Here from an earlier join, and asked anew.
    if (!isAnswer && room !== this.#inUrl && !this.#resume.rooms.has(room.id)) return;
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
      if (error.code === "already_joined") {
        // The session is there since before: closed while there was no connection, and begun anew. What it missed is
        // not known here, so it begins with the newest.
        this.#leave(room.id);
        return this.#joinByRequest(room);
      }
      this.emit("trouble", error);
      this.#joinLater(room, error.retryAfter ?? 2000);
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
        this.#pausedUntil = Date.now() + (error.retryAfter ?? 2000);
        this.emit("trouble", error);
      }
      return this.#pump();
    }
    if (request) return request.reject(error);
    this.emit("trouble", error);
    // Of the rooms that a resume named, the error does not say which.
    if (value.id !== undefined && value.id === this.#resume.id) {
      for (const id of this.#resume.rooms) if (this.#rooms.has(id)) this.#joinLater(this.#rooms.get(id), error.retryAfter ?? 2000);
    }
    // The room of the URL could not be joined: again, by request.
    const room = this.#inUrl;
    if (value.id === undefined && room && !room.joined && error.code === "storage_unavailable") this.#joinLater(room, 2000);
  }

  #acknowledged(value) {
    const request = this.#requests.get(value.id);
    this.#requests.delete(value.id);
    request?.room._acknowledged(request.send, value);
    this.#pump();
  }

  /**
   * Sends what may be sent: in each room's order, no more at once and no faster than the server takes. What the server
   * refuses for now all the same may be overtaken by what it takes a moment later.
   */
  #pump() {
    if (this.state.phase !== "open") return;
    clearTimeout(this.#sending);
    const later = (pause) => void (this.#sending = setTimeout(() => this.#pump(), pause));
    if (Date.now() < this.#pausedUntil) return later(this.#pausedUntil - Date.now());
    let flying = 0;
    for (const request of this.#requests.values()) flying += request.send ? 1 : 0;
    for (const room of this.#rooms.values()) {
      while (flying < this.limits.in_flight && room._hasSend()) {
        const pause = this.#pace.take();
        if (pause > 0) return later(pause);
        const send = room._nextSend();
        const id = this.#nextId++;
        this.#requests.set(id, { room, send });
        this.#tell({ type: "send", id, room: room.id, key: send.key, body: send.body });
        flying += 1;
      }
    }
  }
}

function randomText(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
