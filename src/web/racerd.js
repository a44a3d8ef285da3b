// Talks to a racerd server: one socket, several rooms, by itself back after a loss. No DOM in it: it runs in a page and
// in Node (with the global WebSocket, or one passed in).
//
//     const client = connect({ base: "https://chat.example/", name: "ann" });
//     const room = client.join("lobby", { last: 50 });
//     room.on("message", (message) => console.log(message.from.name, message.body));
//     await room.send({ text: "hello" }).done;      // resolves when the server has acknowledged it
//
// What is sent again after a loss, and why that is right, is told in racerd/room.js.

import { Emitter, RacerdError } from "./racerd/events.js";
import { Room } from "./racerd/room.js";

export { RacerdError, Room };

/** What a room id may be. */
export const ROOM_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;
export const ROOM_RULE = "A room's name is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not “.” or “..”.";
/** Most characters of a name. */
export const NAME_MAX = 32;

// All in milliseconds.
/** The longest pause between two tries. */
const LONGEST_PAUSE = 30_000;
/** A connection that lived so long was a good one: the pauses begin anew. */
const GOOD = 10_000;
/** After so much silence the server is asked whether it is there, and has so long to answer. */
const SILENCE = 30_000;
const ANSWER = 10_000;
const TICK = 5_000;
/** A handshake takes so long at most. */
const HANDSHAKE = 15_000;

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
 * @property {typeof WebSocket} [WebSocket]
 * @property {typeof fetch} [fetch]
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
  #keys = randomText(16);
  #nextKey = 1;
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
  /** How many sends may go out by now, so that the server need not refuse any. */
  #allowance = { left: 0, at: 0 };

  constructor(options) {
    super();
    this.#options = { WebSocket: globalThis.WebSocket, fetch: globalThis.fetch?.bind(globalThis), ...options };
    this.name = options.name;
    this.formerly = new Set(options.formerly ?? []);
  }

  /**
   * Joins a room, now and after every loss again, until it is left.
   * @param {string} id
   * @param {{last?: number, presence?: "full"|"count"|"off"}} [options] how many of the newest messages to begin with
   * @returns {Room}
   */
  join(id, options = {}) {
    const known = this.#rooms.get(id);
    if (known) return known;
    if (!ROOM_ID.test(id)) throw new RangeError(ROOM_RULE);
    const room = new Room(id, { last: 0, presence: "full", ...options }, this, {
      request: (value) => this.#request(value),
      tell: (value) => this.#tell(value),
      pump: () => this.#pump(),
      key: () => `${this.#keys}-${this.#nextKey++}`,
      forget: () => this.#rooms.delete(id),
    });
    this.#rooms.set(id, room);
    if (this.state.phase === "open") this.#joinByRequest(room);
    // Rooms that are joined in one go share the first handshake.
    else if (this.state.phase === "idle") queueMicrotask(() => this.state.phase === "idle" && this.#open());
    return room;
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

  /** Ends it. What is not acknowledged fails. */
  close() {
    this.#stop(undefined);
    for (const room of this.#rooms.values()) room._abandon();
    this.#rooms.clear();
  }

  // The socket.

  #open() {
    clearTimeout(this.#retry);
    [this.#inUrl] = this.#rooms.values();
    const url = this.#url();
    this.#set({ phase: "connecting" });
    let socket;
    try {
      socket = new this.#options.WebSocket(url, "racerd.v1");
    } catch (error) {
      return this.#stop(error.message);
    }
    this.#socket = socket;
    this.#byePause = null;
    this.#probe = null;
    this.#openedAt = 0;
    this.#heard = Date.now();
    socket.onmessage = (event) => this.#socket === socket && this.#hear(event.data);
    socket.onclose = (event) => this.#socket === socket && this.#lost(event.code);
    socket.onerror = () => {};
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#tick(), TICK);
  }

  /** The socket's URL: of a room, which it joins; or of none. */
  #url() {
    const room = this.#inUrl;
    const query = new URLSearchParams(room ? room._start() : {});
    if (this.name) query.set("name", this.name);
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

  async #lost(code) {
    const opened = this.#openedAt > 0;
    const good = opened && Date.now() - this.#openedAt > GOOD;
    this.#detach();
    if (FINAL.has(code)) return this.#set({ phase: "stopped", reason: FINAL.get(code) });
    this.#failures = good ? 0 : this.#failures + 1;
    this.#unopened = opened ? 0 : this.#unopened + 1;
    // Half of it is chance, so that all who lost the server do not come back in one moment.
    const longest = Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures);
    let pause = this.#byePause ?? Math.round(longest * (0.5 + Math.random() / 2));
    if (code === 1008 || code === 1013) pause = Math.max(pause, 5000);
    this.#wait(pause, this.#byePause !== null);
    // Why an upgrade is refused, a browser does not say; the same URL fetched does. A single one may be chance.
    if (this.#unopened === 2 || (this.#unopened > 2 && this.#unopened % 5 === 0)) await this.#askWhy();
  }

  #wait(pause, leaving = false, reason) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), pause);
    this.#set({ phase: "waiting", retryAt: Date.now() + pause, leaving, reason });
  }

  async #askWhy() {
    const waiting = this.state;
    let status, problem;
    try {
      const answer = await this.#options.fetch(this.#url().replace("ws", "http"), { cache: "no-store" });
      status = answer.status;
      problem = await answer.json().catch(() => ({}));
      problem.pause = 1000 * Number(answer.headers.get("Retry-After"));
    } catch {
      return; // Nobody is there, which is known.
    }
    if (this.state !== waiting) return;
    const detail = String(problem.detail ?? `the server answers ${status}`);
    // The server would take an upgrade, but none gets through.
    if (status === 426) return this.#wait(waiting.retryAt - Date.now(), false, "The server is there, but something on the way, a proxy perhaps, lets no WebSocket through.");
    if ([400, 401, 403, 404, 421].includes(status)) return this.#stop(`Refused: ${detail}.`);
    this.#wait(Math.max(waiting.retryAt - Date.now(), problem.pause || 0), false, `Refused for now: ${detail}.`);
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
      if (now - this.#heard > SILENCE) this.#ask();
    } else if (now - this.#probe.at > ANSWER) {
      if (this.#probe.suspect) this.#giveUp();
      else this.#probe.suspect = true;
    }
  }

  #ask() {
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
      case "joined":
        this.#answer(value);
        room?._joined(value);
        return this.#pump();
      case "ack": return this.#acknowledged(value);
      case "message": return room?._message(value);
      case "signal": return room?.emit("signal", { from: value.from, body: value.body });
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

  #welcome(value) {
    this.#openedAt = Date.now();
    this.#unopened = 0;
    this.member = value.member;
    this.formerly.add(value.member);
    this.name ??= value.name;
    this.limits = value.limits;
    this.#allowance = { left: value.limits.request_rate, at: Date.now() };
    this.emit("welcome", value);
    this.#set({ phase: "open" });
    for (const room of this.#rooms.values()) if (room !== this.#inUrl) this.#joinByRequest(room);
  }

  #joinByRequest(room) {
    const again = (error) => {
      if (error.code === "lost" || this.#rooms.get(room.id) !== room) return;
      this.emit("trouble", error);
      this.#joinLater(room, error.retryAfter ?? 2000);
    };
    this.#request({ type: "join", room: room.id, ...room._start() }).catch(again);
  }

  #joinLater(room, pause) {
    const socket = this.#socket;
    setTimeout(() => this.#socket === socket && this.#joinByRequest(room), pause);
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
        const pause = this.#pace();
        if (pause > 0) return later(pause);
        const send = room._nextSend();
        const id = this.#nextId++;
        this.#requests.set(id, { room, send });
        this.#tell({ type: "send", id, room: room.id, key: send.key, body: send.body });
        flying += 1;
      }
    }
  }

  /** Takes leave for one send: 0, or the milliseconds until there is one. At once a second's worth of them. */
  #pace() {
    const rate = this.limits.request_rate;
    if (!rate) return 0;
    const { left, at } = this.#allowance;
    const now = Date.now();
    const saved = Math.min(rate, left + (Math.max(0, now - at) * rate) / 1000);
    this.#allowance = { left: saved >= 1 ? saved - 1 : saved, at: now };
    return saved >= 1 ? 0 : Math.ceil(((1 - saved) * 1000) / rate);
  }
}

function randomText(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
