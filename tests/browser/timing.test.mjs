// When the client of racerd.js does what: pauses between attempts, silence, the pace of messages, and dates that are
// set while it runs.

import assert from "node:assert/strict";
import test from "node:test";
import { joinedAt, play, turn, WELCOME } from "./played.mjs";

test("a message that is a week old is not sent automatically", async (t) => {
  const { client, room, sockets, clock } = await play(t);
  sockets[0].hear({ ...WELCOME, session: "t1" }, joinedAt(0));
  sockets[0].end();
  const old = room.send("old").done.catch(({ code }) => code);
  clock.sleep(7 * 86_400_000 + 1);
  room.send("new").done.catch(() => {});
  client.check();
  const { said } = sockets.at(-1);
  sockets.at(-1).hear({ ...WELCOME, session: "x" });
  sockets.at(-1).hear({ ...WELCOME, id: said[0].id, session: "t2" }, joinedAt(0));
  assert.deepEqual(said.slice(1).map(({ body }) => body), ["new"]);
  assert.equal(await old, "too_old");
});

test("timers that fire once a minute do not end a live connection", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  for (let minute = 0; minute < 10; minute += 1) {
    // Time passes with a single tick; what arrived meanwhile is delivered after it.
    clock.sleep(55_000);
    clock.tick(5_000);
    const pings = sockets[0].said.filter(({ type }) => type === "ping").length;
    assert.equal(pings, minute + 1, "one ping for each silence");
    sockets[0].hear({ type: "pong", heads: {} });
  }
  assert.equal(client.state.phase, "open");
  assert.equal(sockets.length, 1);
});

test("a sleep during a ping decides nothing; the next silence does", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  clock.tick(35_000);
  assert.equal(sockets[0].said.at(-1).type, "ping");
  clock.sleep(300_000);
  clock.tick(1);
  assert.equal(client.state.phase, "open", "one tick only suspects");
  sockets[0].hear({ type: "pong", heads: {} });
  clock.tick(5_000);
  assert.equal(client.state.phase, "open");
  assert.equal(sockets[0].said.length, 1);
  // From now on nothing arrives.
  clock.tick(60_000);
  assert.notEqual(client.state.phase, "open");
  assert.equal(sockets[0].readyState, 3, "the dead socket is closed");
  assert.equal(sockets[0].said.length, 2, "one ping");
});

test("a page that is shown again pings the server once", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  client.check();
  assert.equal(sockets[0].said.length, 0, "something arrived just now");
  clock.sleep(20_000);
  for (let times = 0; times < 3; times += 1) client.check();
  assert.equal(sockets[0].said.length, 1);
});

test("the pauses between attempts grow, are randomised, and end at once on check()", async (t) => {
  const { client, sockets, clock } = await play(t, { fetch: () => Promise.reject(new Error("nobody")) });
  const pauses = [];
  for (let times = 0; times < 12; times += 1) {
    sockets.at(-1).end();
    await turn();
    pauses.push(client.state.retryAt - performance.now());
    clock.tick(client.state.retryAt - performance.now());
  }
  pauses.forEach((pause, index) => {
    const longest = Math.min(30_000, 500 * 2 ** (index + 1));
    assert.ok(pause >= longest / 2 && pause <= longest, `${index}: ${pause}`);
  });
  sockets.at(-1).end();
  const { length } = sockets;
  client.check();
  assert.equal(sockets.length, length + 1);
});

test("a server that names a senseless pause causes no hot loop", async (t) => {
  const { client, sockets, clock } = await play(t, { fetch: () => Promise.reject(new Error("nobody")) });
  for (const [wish, least, most] of [[0, 250, 30_000], [10 ** 12, 3_600_000, 3_600_000]]) {
    sockets.at(-1).hear(WELCOME, joinedAt(0), { type: "bye", reconnect_after_ms: wish });
    sockets.at(-1).end(1001);
    const pause = client.state.retryAt - performance.now();
    assert.ok(pause >= least && pause <= most, `${wish}: ${pause}`);
    clock.tick(pause);
  }
});

test("the pauses of many clients are spread over half of their length", async (t) => {
  const { client, sockets, clock } = await play(t, { fetch: () => Promise.reject(new Error("nobody")) });
  const pauses = [0, 0.25, 0.5, 0.999].map((chance) => {
    t.mock.method(Math, "random", () => chance);
    sockets.at(-1).hear(WELCOME, joinedAt(0));
    clock.tick(11_000);
    sockets.at(-1).end();
    const pause = client.state.retryAt - performance.now();
    clock.tick(pause);
    return pause;
  });
  assert.deepEqual(pauses, [250, 313, 375, 500]);
});

for (const code of [1008, 1013]) {
  test(`after a close with ${code} the client waits five seconds`, async (t) => {
    const { client, sockets, clock } = await play(t);
    for (let times = 0; times < 3; times += 1) {
      sockets.at(-1).hear(WELCOME, joinedAt(0));
      sockets.at(-1).end(code);
      const { length } = sockets;
      clock.tick(4999);
      assert.equal(sockets.length, length);
      clock.tick(1);
      assert.equal(sockets.length, length + 1);
    }
    assert.equal(client.state.phase, "connecting");
  });
}

test("a burst is at most one second's worth, however long nothing was sent", async (t) => {
  const { room, sockets, clock } = await play(t);
  const limits = { in_flight: 1000, max_message_size: 1000, request_rate: 10 };
  sockets[0].hear({ ...WELCOME, limits }, joinedAt(0));
  clock.sleep(3_600_000);
  for (let n = 0; n < 50; n += 1) room.send(n).done.catch(() => {});
  const sends = () => sockets[0].said.filter(({ type }) => type === "send").length;
  assert.equal(sends(), 10);
  clock.tick(99);
  assert.equal(sends(), 10);
  clock.tick(1);
  assert.equal(sends(), 11);
  clock.tick(1000);
  assert.equal(sends(), 21);
});

for (const code of ["storage_unavailable", "rate_limited"]) {
  test(`after ${code} the client waits as long as the server says, and never retries in a hot loop`, async (t) => {
    const { room, sockets, clock } = await play(t);
    sockets[0].hear(WELCOME, joinedAt(0));
    room.send("a").done.catch(() => {});
    const sends = () => sockets[0].said.filter(({ type }) => type === "send");
    for (const [wish, pause] of [[undefined, 2000], [700, 700], [0, 100], [-5, 100]]) {
      const before = sends().length;
      sockets[0].hear({ type: "error", id: sends().at(-1).id, code, message: "full", retry_after_ms: wish });
      assert.equal(sends().length, before, "no retry at once");
      clock.tick(pause - 1);
      assert.equal(sends().length, before);
      clock.tick(2);
      assert.equal(sends().length, before + 1);
    }
    assert.equal(new Set(sends().map(({ key }) => key)).size, 1, "always under the same key");
  });
}

test("a join that the store cannot answer is retried after a pause, not in a hot loop", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  client.join("r2");
  const joins = () => sockets[0].said.filter(({ type }) => type === "join");
  for (const [wish, pause] of [[undefined, 2000], [0, 100]]) {
    const before = joins().length;
    sockets[0].hear({ type: "error", id: joins().at(-1).id, code: "storage_unavailable", message: "busy", retry_after_ms: wish });
    await turn();
    clock.tick(pause - 1);
    assert.equal(joins().length, before);
    clock.tick(1);
    await turn();
    assert.equal(joins().length, before + 1);
  }
});

for (const [what, by] of [["ahead", 9 * 86_400_000], ["back", -9 * 86_400_000], ["ahead by decades", 30 * 365 * 86_400_000]]) {
  test(`a date that is set ${what} loses nothing and delays nothing`, async (t) => {
    const { client, room, sockets, clock } = await play(t);
    const limits = { in_flight: 100, max_message_size: 1000, request_rate: 10 };
    sockets[0].hear({ ...WELCOME, session: "t1", limits }, joinedAt(0));
    sockets[0].end();
    const sends = Array.from({ length: 15 }, (_, n) => room.send(n));
    clock.step(by);
    // The pause keeps its length.
    const pause = client.state.retryAt - performance.now();
    assert.ok(pause <= 1000, `${pause}`);
    clock.tick(pause);
    const socket = sockets.at(-1);
    assert.equal(sockets.length, 2);
    socket.hear({ ...WELCOME, session: "x" });
    socket.hear({ ...WELCOME, id: socket.said[0].id, session: "t2", limits }, joinedAt(0));
    const said = () => socket.said.filter(({ type }) => type === "send");
    assert.equal(said().length, 10);
    clock.step(-by);
    clock.tick(500);
    assert.deepEqual(said().map(({ body }) => body), sends.map((_, n) => n));
    // A message that the server refuses for now waits by the same clock.
    socket.hear({ type: "error", id: said()[0].id, code: "storage_unavailable", message: "full", retry_after_ms: 700 });
    clock.step(-by);
    clock.tick(701);
    assert.equal(said().length, 16);
    // The connection is neither taken for dead too early nor kept too long.
    clock.step(by);
    clock.tick(5000);
    assert.equal(client.state.phase, "open");
    assert.equal(socket.said.filter(({ type }) => type === "ping").length, 0);
    clock.tick(60_000);
    assert.notEqual(client.state.phase, "open");
    for (const { done } of sends) done.catch(() => {});
  });
}

test("a server that shuts down says when to come back", async (t) => {
  const { client, sockets } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0), { type: "bye", reason: "shutdown", reconnect_after_ms: 4321 });
  sockets[0].end(1001);
  assert.deepEqual(client.state, { phase: "waiting", retryAt: performance.now() + 4321, leaving: true, reason: undefined, warning: undefined });
});

test("after a final close the client reconnects only on retry()", async (t) => {
  const { client, sockets, clock } = await play(t);
  for (const code of [4001, 4003, 4005]) {
    sockets.at(-1).hear(WELCOME, joinedAt(0));
    sockets.at(-1).end(code);
    assert.equal(client.state.phase, "stopped");
    assert.ok(client.state.reason.length > 10);
    const { length } = sockets;
    clock.tick(600_000);
    client.check();
    assert.equal(sockets.length, length);
    client.retry();
    assert.equal(sockets.length, length + 1);
  }
});
