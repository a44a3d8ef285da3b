// A client of racerd.js on a socket and a clock that the test plays.

import test from "node:test";
import { library } from "./support.mjs";

export const { load, remove } = await library();
export const { connect } = await load("racerd.js");
test.after(remove);

export const bodies = (heard) => heard.map(({ body }) => body);

/** Returns a class of sockets that the test plays: it hears what they were sent, and says what arrives. */
export function played() {
  const sockets = [];
  return {
    sockets,
    Socket: class {
      readyState = 0;
      said = [];
      constructor(url) {
        this.url = url;
        sockets.push(this);
      }
      send(text) {
        this.said.push(JSON.parse(text));
      }
      close() {
        this.readyState = 3;
      }
      hear(...values) {
        this.readyState = 1;
        for (const value of values) this.onmessage({ data: JSON.stringify(value) });
      }
      end(code = 1006) {
        this.readyState = 3;
        this.onclose({ code });
      }
    },
  };
}

export const WELCOME = { type: "welcome", member: "m-1", name: "ann", limits: { in_flight: 2, max_message_size: 1000, request_rate: 20 } };
export const joinedAt = (head, from = head + 1, more = {}) => ({ type: "joined", room: "r1", epoch: "e1", head, from, recovered: true, members: 1, ...more });
export const message = (seq, body = seq, member = "m-2") => ({ type: "message", room: "r1", seq, at: 1000 + seq, from: { member, name: "x" }, body });
export const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Replaces `performance.now`, timers and the date by a clock that the test moves, until the test ends. */
function takeClock(t) {
  let now = 1_000_000;
  let date = 1_700_000_000_000;
  const timers = new Map();
  const add = (again) => (call, milliseconds = 0) => {
    // Node's own modules use timers, too, and need these methods.
    const timer = { ref: () => timer, unref: () => timer, refresh: () => timer, hasRef: () => false };
    timers.set(timer, { call, at: now + milliseconds, again: again ? milliseconds : null });
    return timer;
  };
  t.mock.method(performance, "now", () => now);
  t.mock.method(Date, "now", () => date + now);
  t.mock.method(globalThis, "setTimeout", add(false));
  t.mock.method(globalThis, "setInterval", add(true));
  for (const clear of ["clearTimeout", "clearInterval"]) t.mock.method(globalThis, clear, (id) => timers.delete(id));
  return {
    /** Lets time pass; timers fire when they are due, and a late one fires once. */
    tick(milliseconds) {
      const end = now + milliseconds;
      for (;;) {
        const due = [...timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
        if (!due) break;
        const [id, timer] = due;
        now = Math.max(now, timer.at);
        if (timer.again === null) timers.delete(id);
        else timer.at = now + timer.again;
        timer.call();
      }
      now = end;
    },
    /** Lets time pass without timers: the page is frozen or hidden. */
    sleep(milliseconds) {
      now += milliseconds;
    },
    /** Sets the date, as a user or the network does. */
    step(milliseconds) {
      date += milliseconds;
    },
  };
}

/** Returns a client in room `r1` on a played socket, and lists of what it emits. */
export async function play(t, { fetch } = {}) {
  const clock = takeClock(t);
  const { sockets, Socket } = played();
  const client = connect({ base: "http://h/chat/", name: "ann", WebSocket: Socket, fetch });
  const room = client.join("r1", { last: 50 });
  const heard = [];
  room.on("message", (message) => heard.push(message));
  const holes = [];
  room.on("hole", (hole) => holes.push(hole));
  await turn();
  t.after(() => client.close());
  return { client, room, heard, holes, sockets, clock };
}
