// Talks to a racerd server: one socket, several rooms, by itself back after a loss. No DOM in it: it runs in a page and
// in Node (with the global WebSocket, or one passed in).
//
//     const client = connect({ base: "https://chat.example/", name: "ann" });
//     const room = client.join("lobby", { last: 50 });
//     room.on("message", (message) => console.log(message.from.name, message.body));
//     await room.send({ text: "hello" }).done;      // resolves when the server has acknowledged it
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

/** What a room id may be. */
export const ROOM_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;
export const ROOM_RULE = "A room's name is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not “.” or “..”.";
/** Most characters of a name. */
export const NAME_MAX = 32;

// All in milliseconds.
/** Time for the store to commit what the server took from a socket that is gone. */
const SETTLE = 500;
/** How long an old socket of ours is waited for to be gone. */
const OLD_SOCKET = 5_000;
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

/** A request that the server refused, or that was lost. `code` is the protocol's, or `lost`, `unknown_fate`, `closed`. */
export class RacerdError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "RacerdError";
    this.code = code;
    this.field = more.field;
    this.retryAfter = more.retry_after_ms;
  }
}

/** Listeners by the name of what happens. */
class Emitter {
  #listeners = new Map();

  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} takes the listener away
   */
  on(type, listener) {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    return () => set.delete(listener);
  }

  /** A listener's fault is reported, and stops nobody else. */
  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}

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
    this.#request({ type: "join", room: room.id, ...room._start(), presence: room.presence }).catch(again);
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
   * Sends what may be sent: in each room's order, no more at once than the server takes. What the server refuses for
   * now may be overtaken by what it takes a moment later.
   */
  #pump() {
    if (this.state.phase !== "open") return;
    clearTimeout(this.#sending);
    const pause = this.#pausedUntil - Date.now();
    if (pause > 0) return void (this.#sending = setTimeout(() => this.#pump(), pause));
    let flying = 0;
    for (const request of this.#requests.values()) flying += request.send ? 1 : 0;
    for (const room of this.#rooms.values()) {
      while (flying < this.limits.in_flight) {
        const send = room._nextSend();
        if (!send) break;
        const id = this.#nextId++;
        this.#requests.set(id, { room, send });
        this.#tell({ type: "send", id, room: room.id, key: send.key, body: send.body });
        flying += 1;
      }
    }
  }
}

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

  get presence() {
    return this.#options.presence;
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

  /** Where to begin, as a join says it. */
  _start() {
    if (this.cursor === null) return this.#options.last ? { last: this.#options.last } : {};
    return { after: this.cursor, epoch: this.epoch };
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

  /** The next to be sent, which then is under way. Nothing overtakes what is unsure. */
  _nextSend() {
    if (!this.joined) return undefined;
    const send = this.#outbox.find((send) => send.fate !== "flying");
    if (send?.fate !== "queued") return undefined;
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

function randomText(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
