// Keeps one WebSocket open: detects a dead one, waits after a loss, and opens the next. It knows nothing of rooms.

import { RacerdError } from "./events.js";
import { askWhy } from "./refusal.js";

// All in milliseconds. Times are those of `performance.now()`, because the date may be set meanwhile.
const LONGEST_PAUSE = 30_000;
/** A connection that lasted this long resets the back-off. */
const GOOD = 10_000;
/** After this much silence the client sends a ping, to be answered within ANSWER. */
const SILENCE = 30_000;
const ANSWER = 10_000;
const TICK = 5_000;
/** The longest time between pings, even without silence: a pong renews an old token. */
const OLD = 3_600_000;
const HANDSHAKE = 15_000;
/** The shortest time between two requests for the reason of a refusal. */
const WHY = 60_000;
/** Pause before code that failed to load is requested again. */
export const RELOAD = 5000;
/** The pause if the server names none, and the bounds of one that it names. */
const PAUSE = 2000;
const SHORTEST_PAUSE = 100;
const LONGEST_WISH = 3_600_000;
/** The shortest pause after a close for overload or abuse. */
const OVERLOADED = 5000;
/** The first and the longest pause after a server without the pinned key. */
const MISMATCH = 30_000;
const LONGEST_MISMATCH = 300_000;

export const [TAKEN_OVER, TOO_BIG] = [4001, 1009];
const ENDED = 4005;
const [POLICY, TRY_LATER] = [1008, 1013];
/** Any close code except 1000, or none, keeps the session resumable. */
export const COMING_BACK = 3000;

const PROTOCOL = "racerd.v1";
/** Whatever else was kept as a token would make a WebSocket throw, or its request too long. */
const TOKEN = /^[A-Za-z0-9_-]{1,300}$/;

/**
 * Close codes after which the client does not reconnect; after ENDED it does if there can be another token. 4003 is
 * reserved: no server sends it yet.
 */
const FINAL = new Map([
  [TAKEN_OVER, "You opened this in another window, which took over."],
  [4003, "A moderator removed you."],
  [ENDED, "You no longer have permission to be here."],
]);

const NO_WEBSOCKET = "This runtime has no WebSocket. Node has one from version 22 on; for an older version, install the package ws and"
  + " pass its class: connect({ base, WebSocket }).";

/** Returns how long the server wants to be left alone after this error. */
export function pauseOf(error) {
  return Math.min(Math.max(error.retryAfter ?? PAUSE, SHORTEST_PAUSE), LONGEST_WISH);
}

/** Half of a pause is random, so that clients do not return all at once. */
function jittered(longest) {
  return Math.round(longest * (0.5 + Math.random() / 2));
}

export class Connection {
  state = { phase: "idle" };
  /** The error of every later request, once the client has stopped or was closed. */
  end = null;

  #options;
  #owner;
  #socket = null;
  #url = "";
  /** The class of sealed sockets, once it is loaded. */
  #SealedSocket = null;
  #retry = null;
  #ticker = null;
  #askedAt = 0;
  #heardAt = 0;
  #openedAt = 0;
  #whyAt = -Infinity;
  /** The ping that is not answered yet: {at, isSuspect}. */
  #probe = null;
  #failures = 0;
  #mismatches = 0;
  /** Somebody without the pinned key has answered; until the pinned server does. */
  #warning = undefined;
  #unopened = 0;
  #byePause = null;
  #isLeaving = false;

  /**
   * `owner`: `url()` returns the next socket's URL; `token()` that of the session that it is to resume, or null; `loads()` returns loaders of code that the rooms need first, and
   * `loaded()` follows them; `renews()` tells whether there can be another token that says who this is; `changed(state)`, `heard(value)`, `down(code)` for a lost socket, `ended(error)`.
   */
  constructor(options, owner) {
    this.#options = options;
    this.#owner = owner;
  }

  get isSealed() {
    return this.#options.pin !== undefined;
  }

  get isOpen() {
    return this.state.phase === "open";
  }

  /** Only for comparison: is it still the same one after a wait? */
  get socket() {
    return this.#socket;
  }

  get longest() {
    return this.isSealed ? this.#SealedSocket.longest : Infinity;
  }

  allow(longest) {
    this.#socket.allow?.(longest);
  }

  send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  open() {
    clearTimeout(this.#retry);
    const loads = [...this.#loads(), ...this.#owner.loads()];
    if (loads.length > 0) return void this.#load(loads);
    const { pin, WebSocket } = this.#options;
    this.#url = this.#owner.url();
    if (typeof WebSocket !== "function") return this.stop(new RacerdError("unsupported", NO_WEBSOCKET));
    this.connecting();
    let socket;
    try {
      socket = this.isSealed ? new this.#SealedSocket(this.#url, pin, WebSocket) : new WebSocket(this.#url, this.#offers());
    } catch (error) {
      return this.stop(new RacerdError("unsupported", error.message));
    }
    this.#socket = socket;
    this.#byePause = null;
    this.#probe = null;
    this.#openedAt = 0;
    this.#heardAt = performance.now();
    socket.onmessage = (event) => this.#socket === socket && this.#hear(event.data);
    socket.onclose = ({ code, final, warning }) => this.#socket === socket && this.#lost(code, final, warning);
    socket.onerror = () => {};
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#tick(), TICK);
  }

  /**
   * A server with too many handshakes lets those in first who show a token, and an upgrade has no other place for one.
   * Over a sealed socket it would go in the clear.
   */
  #offers() {
    const token = this.#owner.token();
    return TOKEN.test(token ?? "") ? [PROTOCOL, `racerd.session.${token}`] : [PROTOCOL];
  }

  connecting() {
    this.#set({ phase: "connecting", leaving: this.#isLeaving, warning: this.#warning });
  }

  /** Notes that the server has accepted the socket. */
  accepted() {
    this.#openedAt = performance.now();
    this.#unopened = 0;
    this.#mismatches = 0;
    this.#warning = undefined;
  }

  opened() {
    this.#askedAt = performance.now();
    this.#isLeaving = false;
    this.#set({ phase: "open" });
  }

  /** Notes that the server shuts down and wants clients back after `pause`. */
  leaving(pause) {
    this.#isLeaving = true;
    this.#byePause = pause ?? null;
  }

  /** Checks the connection at once: ends a pause; pings an open socket, once for each silence. */
  check() {
    if (this.state.phase === "waiting") return this.open();
    if (!this.isOpen || this.#socket?.readyState > 1) return;
    if (!this.#probe && performance.now() - this.#heardAt > 1000) this.#ping();
  }

  retry() {
    if (this.end?.code === "closed" || !["waiting", "stopped"].includes(this.state.phase)) return;
    this.end = null;
    this.open();
  }

  giveUp() {
    const socket = this.#socket;
    this.#lost(0);
    // Its own close event may take minutes. If this close arrives after all, the session stays resumable.
    socket?.close(COMING_BACK);
  }

  /** Stops; everything unanswered fails with `error`. */
  stop(error, reason = error.message, code) {
    this.end = error;
    this.#detach()?.close(code);
    this.#owner.ended(error);
    this.#set({ phase: "stopped", reason });
  }

  #loads() {
    const load = async () => ({ SealedSocket: this.#SealedSocket } = await import("./sealed.js"));
    return this.isSealed && !this.#SealedSocket ? [load] : [];
  }

  async #load(loads) {
    this.#set({ phase: "connecting" });
    const { state } = this;
    try {
      await Promise.all(loads.map((load) => load()));
    } catch {
      if (this.state === state) this.#wait(RELOAD, "The encryption code could not be loaded.");
      return;
    }
    this.#owner.loaded();
    if (this.state === state) this.open();
  }

  #set(state) {
    this.state = state;
    this.#owner.changed(state);
  }

  #detach(code) {
    clearInterval(this.#ticker);
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    this.#owner.down(code);
    return socket;
  }

  async #lost(code, final = FINAL.get(code), warning) {
    const wasOpen = this.#openedAt > 0;
    const wasGood = wasOpen && performance.now() - this.#openedAt > GOOD;
    this.#detach(code);
    if (final && !(code === ENDED && this.#owner.renews())) return this.stop(new RacerdError(code === TAKEN_OVER ? "moved" : "refused", final));
    if (warning) return this.#mismatched(warning);
    this.#failures = wasGood ? 0 : this.#failures + 1;
    this.#unopened = wasOpen ? 0 : this.#unopened + 1;
    const ownPause = jittered(Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures));
    const isOverloaded = code === POLICY || code === TRY_LATER;
    this.#wait(Math.max(ownPause, this.#byePause ?? 0, isOverloaded ? OVERLOADED : 0));
    // A single failure may be chance.
    if (this.#unopened >= 2 && performance.now() - this.#whyAt > WHY) await this.#askWhy();
  }

  /** Tries again, rarely: another server may be there only for now, and so may somebody in the middle. */
  #mismatched(warning) {
    this.#warning = warning;
    this.#mismatches += 1;
    this.#wait(jittered(Math.min(LONGEST_MISMATCH, MISMATCH * 2 ** (this.#mismatches - 1))));
  }

  #wait(wish, reason) {
    const pause = Math.min(wish, LONGEST_WISH);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.open(), pause);
    this.#set({ phase: "waiting", retryAt: performance.now() + pause, leaving: this.#isLeaving, reason, warning: this.#warning });
  }

  async #askWhy() {
    this.#whyAt = performance.now();
    const waiting = this.state;
    const why = await askWhy(this.#options.fetch, this.#url.replace("ws", "http"), this.isSealed);
    if (!why || this.state !== waiting) return;
    if (why.isFinal) return this.stop(new RacerdError("refused", why.text));
    // Whoever has not proved to be the server may not ask for a long pause.
    const pause = this.isSealed ? Math.min(why.pause, LONGEST_PAUSE) : why.pause;
    this.#wait(Math.max(waiting.retryAt - performance.now(), pause), why.text);
  }

  /**
   * Detects a dead connection by elapsed time, not by ticks: a hidden page gets one tick a minute, a frozen page none.
   * Data that arrived during a sleep is delivered between two ticks, so the first late tick only suspects, and the next
   * decides.
   */
  #tick() {
    const now = performance.now();
    if (this.state.phase === "connecting") {
      if (now - this.#heardAt > HANDSHAKE) this.giveUp();
    } else if (!this.#probe) {
      if (now - this.#heardAt > SILENCE || now - this.#askedAt > OLD) this.#ping();
    } else if (now - this.#probe.at > ANSWER) {
      if (this.#probe.isSuspect) this.giveUp();
      else this.#probe.isSuspect = true;
    }
  }

  #ping() {
    this.#askedAt = performance.now();
    this.#probe = { at: this.#askedAt, isSuspect: false };
    this.send('{"type":"ping"}');
  }

  #hear(text) {
    this.#heardAt = performance.now();
    this.#probe = null;
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return;
    }
    if (this.isSealed && value.type === "closing") return this.#socket.closing(value.code);
    this.#owner.heard(value);
  }
}
