// racerd.js alone, in Node: against the real server over a relay that loses things, and
// against a socket played by the test, with a clock of the test's own.

import assert from "node:assert/strict";
import test from "node:test";
import { sealedServer } from "./noise.mjs";
import { library, Member, relay, Server, until, WebSocket } from "./support.mjs";

const { load, remove } = await library();
const { connect } = await load("racerd.js");
test.after(remove);

async function joined(t, base, options = {}) {
  const client = connect({ base, name: "ann", WebSocket, ...options });
  t.after(() => client.close());
  const room = client.join("r1", { last: 50 });
  const heard = [];
  room.on("message", (message) => heard.push(message));
  await until("live", () => room.joined && room.members.size > 0);
  return { client, room, heard };
}

const bodies = (heard) => heard.map(({ body }) => body);

test("talks in several rooms over one socket, and hears its own messages with their keys", async (t) => {
  const server = await Server.start(t);
  const { client, room, heard } = await joined(t, server.base);
  const other = client.join("r2", { last: 5 });
  const there = [];
  other.on("message", (message) => there.push(message));
  await until("both", () => other.joined);
  const first = room.send({ text: "one" });
  const acks = await Promise.all([first.done, room.send({ text: "two" }).done, other.send(["any", { json: null }]).done]);
  assert.deepEqual(acks.map(({ seq }) => seq), [1, 2, 1]);
  await until("heard", () => heard.length === 2 && there.length === 1);
  assert.deepEqual(heard.map(({ seq, own, key }) => [seq, own, key === first.key]), [[1, true, true], [2, true, false]]);
  assert.deepEqual(there[0].body, ["any", { json: null }]);
  const page = await room.history({ before: 2, limit: 10 });
  assert.deepEqual([page.messages.map(({ seq, own }) => [seq, own]), page.oldest, page.more], [[[1, true]], 1, false]);
  assert.equal(room.excess({ text: "x".repeat(40_000) }) > 0, true);
  assert.equal(room.excess({ text: "x" }) > 0, false);
  await assert.rejects(room.history({ before: 1, limit: 0 }), { code: "bad_field", field: "limit" });
  other.leave();
  await until("left", async () => (await (await fetch(`${server.base}rooms/r2/members`)).json()).count === 0);
  assert.throws(() => client.join("a b"), RangeError);
});

test("comes back to all of its rooms, and misses nothing", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const { client, heard } = await joined(t, line.base);
  const other = client.join("r2");
  await until("both", () => other.joined);
  const there = [];
  other.on("message", ({ body }) => there.push(body));
  line.cut();
  await until("lost", () => client.state.phase === "waiting");
  for (const text of ["a", "b"]) {
    await server.post("r1", text);
    await server.post("r2", text);
  }
  line.mend();
  client.check();
  await until("back", () => heard.length === 2 && there.length === 2);
  assert.deepEqual([bodies(heard), there], [["a", "b"], ["a", "b"]]);
});

test("what never reached the server goes out once", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const { client, room, heard } = await joined(t, line.base);
  line.holdsUp = true;
  const sends = ["one", "two", "two"].map((text) => room.send({ text }));
  line.cut();
  await until("lost", () => client.state.phase === "waiting");
  // Said while there is no connection: behind the others.
  sends.push(room.send({ text: "three" }));
  line.mend();
  const acks = await Promise.all(sends.map(({ done }) => done));
  assert.deepEqual(acks.map(({ seq }) => seq), [1, 2, 3, 4]);
  assert.deepEqual((await server.bodies("r1")).map(({ text }) => text), ["one", "two", "two", "three"]);
  await until("heard", () => heard.length === 4);
  assert.deepEqual(heard.map(({ key }) => key), sends.map(({ key }) => key));
});

test("what was stored and not acknowledged is sent again under its key, and not stored again", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const { client, room, heard } = await joined(t, line.base);
  line.losesDown = true;
  // Equal bodies, among those of others.
  const stored = [{ text: "same" }, { text: "same" }, { b: [1, { c: null }], a: 2 }].map((body) => room.send(body));
  await until("stored", async () => (await server.bodies("r1")).length === 3);
  await server.post("r1", { text: "same" });
  line.holdsUp = true;
  const lost = [{ text: "same" }, { text: "last" }].map((body) => room.send(body));
  line.cut();
  await until("lost", () => client.state.phase === "waiting");
  line.mend();
  const acks = await Promise.all([...stored, ...lost].map(({ done }) => done));
  assert.deepEqual(acks.map(({ seq }) => seq), [1, 2, 3, 5, 6]);
  assert.equal((await server.bodies("r1")).length, 6);
  await until("heard", () => heard.length === 6);
  assert.deepEqual(heard.map(({ seq, own }) => [seq, own]), [[1, true], [2, true], [3, true], [4, false], [5, true], [6, true]]);
  assert.deepEqual(heard.slice(4).map(({ key }) => key), lost.map(({ key }) => key));
});

test("an old socket that is still there is replaced at once, by the same member; what it brings late is nothing new", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const bob = await Member.join(server, "r1", "bob");
  const { client, room, heard } = await joined(t, line.base);
  const { member } = client;
  const events = [];
  room.on("presence", (list) => events.push(...list));
  for (let times = 1; times <= 3; times += 1) {
    line.holdsUp = true;
    const send = room.send({ text: `late ${times}` });
    line.orphan();
    line.holdsUp = false;
    assert.equal((await send.done).seq, times);
    line.release();
    assert.equal(client.member, member);
  }
  await until("heard", () => heard.length === 3);
  assert.deepEqual((await server.bodies("r1")).map(({ text }) => text), ["late 1", "late 2", "late 3"]);
  assert.deepEqual([room.members.size, events], [2, []]);
  const seen = bob.values.filter(({ type }) => type === "presence").flatMap(({ events }) => events).map(({ event }) => event);
  assert.deepEqual(seen, ["join"]);
});

test("resumes after kill -9 as the same member, in all of its rooms; and again where the answer was lost", async (t) => {
  const server = await Server.start(t);
  let answers = 0;
  /** Hears no second `welcome` on its socket, while there is none to be heard. */
  class Deaf extends WebSocket {
    set onmessage(hear) {
      super.onmessage = (event) => {
        const { type, id } = JSON.parse(event.data);
        if (type === "welcome" && id !== undefined && (answers += 1) === 1) this.terminate();
        else if (this.readyState === 1) hear(event);
      };
    }
    get onmessage() {
      return super.onmessage;
    }
  }
  const { client, room, heard } = await joined(t, server.base, { WebSocket: Deaf });
  const { member } = client;
  const other = client.join("r2", { presence: "count" });
  await until("both", () => other.joined);
  await room.send("before").done;
  await server.kill();
  await until("lost", () => client.state.phase === "waiting");
  const send = room.send("said while away");
  await server.restart();
  await server.post("r1", "of another");
  // The next token is made, and does not arrive.
  client.check();
  await until("lost again", () => answers === 1 && client.state.phase === "waiting");
  client.check();
  await send.done;
  assert.equal(answers, 2);
  assert.equal(client.member, member);
  await until("heard", () => heard.length === 3);
  assert.deepEqual(heard.map(({ body, own }) => [body, own]), [["before", true], ["of another", false], ["said while away", true]]);
  await until("in both", () => other.joined && room.joined);
  assert.equal(other.count, 1);
});

test("where the log cannot show it, a person decides", async (t) => {
  const server = await Server.start(t, "--durability", "memory");
  const line = await relay(t, server);
  const { client, room, heard } = await joined(t, line.base);
  await room.send({ text: "before" }).done;
  line.losesDown = true;
  const unsure = room.send({ text: "unsure" });
  const fate = assert.rejects(unsure.done, { code: "unknown_fate" });
  await until("stored", async () => (await server.bodies("r1")).length === 2);
  const holes = [];
  room.on("hole", (hole) => holes.push(hole));
  await server.kill();
  line.losesDown = false;
  await until("lost", () => client.state.phase !== "open");
  const queued = room.send({ text: "said while away" });
  await server.restart();
  await server.post("r1", { text: "first of the new log" });
  await fate;
  await queued.done;
  assert.deepEqual(holes.map(({ restart }) => restart), [true]);
  await until("heard", () => heard.length === 3);
  assert.deepEqual(heard.map(({ seq, body }) => [seq, body.text]), [[1, "before"], [1, "first of the new log"], [2, "said while away"]]);
});

test("too fast for the server: it waits, and all of it goes out once", async (t) => {
  const server = await Server.start(t, "--request-burst", "5", "--request-rate", "50", "--error-budget", "0");
  const { room, heard } = await joined(t, server.base);
  const texts = Array.from({ length: 40 }, (_, index) => `m${index}`);
  await Promise.all(texts.map((text) => room.send(text).done));
  await until("heard", () => heard.length === 40);
  // What is refused is overtaken by what the server takes a moment later.
  assert.deepEqual([...bodies(heard)].sort(), [...texts].sort());
});

test("many at once: no faster than the server says, so that it refuses none", async (t) => {
  const server = await Server.start(t, "--request-rate", "100", "--request-burst", "120", "--error-budget", "1");
  const { client, room, heard } = await joined(t, server.base);
  const troubles = [];
  client.on("trouble", (error) => troubles.push(error.code));
  const texts = Array.from({ length: 250 }, (_, index) => `m${index}`);
  await Promise.all(texts.map((text) => room.send(text).done));
  await until("heard", () => heard.length === 250);
  assert.deepEqual([bodies(heard), troubles], [texts, []]);
});

test("hears of others as much as it wants", async (t) => {
  const server = await Server.start(t);
  const client = connect({ base: server.base, name: "ann", WebSocket });
  t.after(() => client.close());
  const [first, second] = ["r1", "r2"].map((id) => client.join(id, { presence: "count" }));
  await until("both", () => first.joined && second.joined);
  const others = [await Member.join(server, "r1", "bob"), await Member.join(server, "r2", "bob")];
  await until("two", () => first.count === 2 && second.count === 2);
  assert.deepEqual([first.members.size, second.members.size], [0, 0]);
  for (const other of others) await other.leave();
});

test("a refused upgrade is explained, and a final one ends it", async (t) => {
  const server = await Server.start(t);
  // A socket that asks as another origin's page would.
  class Foreign extends WebSocket {
    constructor(url, protocol) {
      super(url, protocol, { origin: "https://evil.example" });
      this.on("error", () => {});
    }
  }
  const foreign = (url, options) => fetch(url, { ...options, headers: { Origin: "https://evil.example" } });
  const client = connect({ base: server.base, name: "ann", WebSocket: Foreign, fetch: foreign });
  t.after(() => client.close());
  client.join("r1");
  await until("stopped", () => client.state.phase === "stopped");
  assert.match(client.state.reason, /^Refused: .*--allow-origin/);
});

// Against a played socket.

/** A class of sockets that do what the test says. */
function played() {
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

const WELCOME = { type: "welcome", member: "m-1", name: "ann", limits: { in_flight: 2, max_message_size: 1000, request_rate: 20 } };
const joinedAt = (head, from = head + 1, more = {}) => ({ type: "joined", room: "r1", epoch: "e1", head, from, recovered: true, members: 1, ...more });
const message = (seq, body = seq, member = "m-2") => ({ type: "message", room: "r1", seq, at: 1000 + seq, from: { member, name: "x" }, body });
const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Time as the test says, for as long as it runs: for `performance.now` and for timers. The date goes along, and can be set
 * to another one by `step`.
 */
function takeClock(t) {
  let now = 1_000_000;
  let date = 1_700_000_000_000;
  const timers = new Map();
  const add = (again) => (call, milliseconds = 0) => {
    // Node's own parts use timers, too, and want these.
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
    /** Time passes, and timers come when they are due; one that is late comes once. */
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
    /** Time passes, and no timer comes: the page is frozen, or hidden. */
    sleep(milliseconds) {
      now += milliseconds;
    },
    /** Somebody, or the network, sets the date. */
    step(milliseconds) {
      date += milliseconds;
    },
  };
}

async function play(t, { fetch } = {}) {
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

test("each message once, whatever comes twice; holes are told", async (t) => {
  const { heard, holes, sockets } = await play(t);
  assert.equal(sockets[0].url, "ws://h/chat/rooms/r1/ws?last=50&name=ann");
  sockets[0].hear(WELCOME, joinedAt(3, 1), message(1), message(2), message(2), message(1), message(3));
  assert.deepEqual(bodies(heard), [1, 2, 3]);
  sockets[0].hear({ type: "gap", room: "r1", after: 3, from: 10 }, message(10), { type: "unheard-of" }, message(12), message(11));
  assert.deepEqual(bodies(heard), [1, 2, 3, 10, 12]);
  assert.deepEqual(holes.map(({ after, from }) => [after, from]), [[3, 10], [10, 12]]);
});

test("what the server cannot read any more keeps its place, and says so", async (t) => {
  const { heard, sockets } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(3, 1), message(1), { ...message(2), body: null, unreadable: true }, message(3));
  assert.deepEqual(heard.map(({ seq, unreadable }) => [seq, unreadable]), [[1, undefined], [2, "damaged"], [3, undefined]]);
});

test("goes on after what it saw; a log that is another, or shorter, is a new one", async (t) => {
  const { client, heard, holes, sockets } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(2, 1), message(1), message(2));
  for (const [joined, restart] of [
    [joinedAt(9, 5, { recovered: false }), false],
    [joinedAt(3, 4, { recovered: false }), true],
    [joinedAt(1, 1, { epoch: "e2", recovered: false }), true],
  ]) {
    const { cursor, epoch } = client.join("r1");
    sockets.at(-1).end();
    client.check();
    assert.match(sockets.at(-1).url, new RegExp(`after=${cursor}&epoch=${epoch}`));
    sockets.at(-1).hear(WELCOME, joined, message(joined.from));
    assert.equal(holes.at(-1).restart, restart);
    assert.equal(heard.at(-1).seq, joined.from);
  }
});

test("resumes by token and cursors, and sends again in order under the same keys", async (t) => {
  const { client, room, heard, sockets } = await play(t);
  const welcome = (session, more = {}) => ({ ...WELCOME, session, ...more });
  sockets[0].hear(welcome("t1"), joinedAt(1, 1), message(1));
  for (const text of ["a", "b", "c"]) room.send(text).done.catch(() => {});
  const first = sockets[0].said.map(({ key, body }) => [key, body]);
  assert.match(first[0][0], /^[A-Za-z0-9_-]{22}$/);
  sockets[0].hear({ type: "pong", session: "t2" });
  for (let times = 1; times <= 2; times += 1) {
    // The second time the answer with the next token was lost: the same token again.
    sockets.at(-1).end();
    client.check();
    const socket = sockets.at(-1);
    assert.equal(socket.url, "ws://h/chat/ws?name=ann");
    socket.hear(welcome("other", { member: "m-9" }));
    const { id, ...resume } = socket.said[0];
    assert.deepEqual(resume, { type: "resume", session: "t2", cursors: { r1: { epoch: "e1", seq: 1, presence: "full" } } });
    assert.equal(client.state.phase, "connecting");
    if (times === 2) socket.hear(welcome("t3", { id }), joinedAt(2, 2), message(2, "a", "m-1"));
  }
  const { said } = sockets.at(-1);
  assert.deepEqual(said.slice(1).map(({ key, body }) => [key, body]), first);
  sockets.at(-1).hear({ type: "ack", id: said[1].id, room: "r1", seq: 2, at: 1, duplicate: true });
  assert.equal(said.at(-1).body, "c");
  assert.deepEqual([bodies(heard), client.member], [[1, "a"], "m-1"]);
});

test("a session that is gone: what was on its way fails, what was not goes out", async (t) => {
  const { client, room, sockets } = await play(t);
  sockets[0].hear({ ...WELCOME, session: "t1" }, joinedAt(0));
  const sends = ["a", "b", "c"].map((text) => room.send(text).done.then(({ seq }) => seq, ({ code }) => code));
  sockets[0].end();
  client.check();
  const { said } = sockets[1];
  sockets[1].hear({ ...WELCOME, member: "m-5", session: "t2" });
  sockets[1].hear({ type: "error", id: said[0].id, code: "not_resumable", message: "no longer kept" });
  assert.deepEqual([client.member, said[1].type, said[1].after, said[1].epoch], ["m-5", "join", 0, "e1"]);
  sockets[1].hear({ ...joinedAt(0), id: said[1].id });
  assert.deepEqual(said.slice(2).map(({ body }) => body), ["c"]);
  sockets[1].hear({ type: "ack", id: said[2].id, room: "r1", seq: 1, at: 1 });
  assert.deepEqual(await Promise.all(sends), ["unknown_fate", "unknown_fate", 1]);
});

test("a join whose answer was lost is asked anew, with all it begins with", async (t) => {
  const { client, room, heard, sockets } = await play(t);
  sockets[0].hear({ ...WELCOME, session: "t1" });
  sockets[0].end();
  client.check();
  const { said } = sockets[1];
  sockets[1].hear({ ...WELCOME, session: "x" });
  assert.deepEqual(said[0].cursors, {});
  sockets[1].hear({ ...WELCOME, id: said[0].id, session: "t2" }, joinedAt(9), message(10));
  assert.deepEqual(said.slice(1).map(({ type, last }) => [type, last]), [["leave", undefined], ["join", 50]]);
  assert.deepEqual([room.joined, heard.length], [false, 0]);
  sockets[1].hear({ ...joinedAt(9, 9), id: said[2].id }, message(9), message(10));
  assert.deepEqual(bodies(heard), [9, 10]);
});

test("what is a week old is not sent by itself", async (t) => {
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

test("who is away", async (t) => {
  const { room, sockets } = await play(t);
  const tell = (event) => sockets[0].hear({ type: "presence", room: "r1", count: 2, events: [{ event, member: "m-b", name: "bob" }] });
  sockets[0].hear(WELCOME, joinedAt(0), { type: "members", room: "r1", count: 2, members: [{ member: "m-b", name: "bob", away: true }, { member: "m-1", name: "ann" }] });
  assert.deepEqual([...room.away], ["m-b"]);
  tell("back");
  assert.deepEqual([[...room.away], room.members.get("m-b")], [[], "bob"]);
  tell("away");
  assert.deepEqual([...room.away], ["m-b"]);
  tell("leave");
  assert.deepEqual([[...room.away], room.members.size], [[], 1]);
});

test("sends no more at once than the server takes, and in order", async (t) => {
  const { room, sockets } = await play(t);
  for (const text of ["a", "b", "c"]) room.send(text).done.catch(() => {});
  sockets[0].hear(WELCOME);
  assert.deepEqual(sockets[0].said, [], "nothing before it is joined");
  sockets[0].hear(joinedAt(0));
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["a", "b"]);
  sockets[0].hear({ type: "ack", id: sockets[0].said[0].id, room: "r1", seq: 1, at: 1 });
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["a", "b", "c"]);
  assert.equal(new Set(sockets[0].said.map(({ key }) => key)).size, 3);
});

// Judged by times, not by ticks.

test("timers that come once a minute end no living connection", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  for (let minute = 0; minute < 10; minute += 1) {
    // The clock goes on, and only one tick comes: what came meanwhile is heard after it.
    clock.sleep(55_000);
    clock.tick(5_000);
    const pings = sockets[0].said.filter(({ type }) => type === "ping").length;
    assert.equal(pings, minute + 1, "asks once for each silence");
    sockets[0].hear({ type: "pong", heads: {} });
  }
  assert.equal(client.state.phase, "open");
  assert.equal(sockets.length, 1);
});

test("a sleep during the question judges nothing; the next silence does", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  clock.tick(35_000);
  assert.equal(sockets[0].said.at(-1).type, "ping");
  clock.sleep(300_000);
  clock.tick(1);
  assert.equal(client.state.phase, "open", "one tick suspects");
  sockets[0].hear({ type: "pong", heads: {} });
  clock.tick(5_000);
  assert.equal(client.state.phase, "open");
  assert.equal(sockets[0].said.length, 1);
  // Nothing at all any more.
  clock.tick(60_000);
  assert.notEqual(client.state.phase, "open");
  assert.equal(sockets[0].readyState, 3, "the dead socket is closed");
  assert.equal(sockets[0].said.length, 2, "asked once");
});

test("when the page is shown, the server is asked once", async (t) => {
  const { client, sockets, clock } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0));
  client.check();
  assert.equal(sockets[0].said.length, 0, "it was heard just now");
  clock.sleep(20_000);
  for (let times = 0; times < 3; times += 1) client.check();
  assert.equal(sockets[0].said.length, 1);
});

test("the pauses grow, are spread, and end at once when it is asked", async (t) => {
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

test("a server that names no pause, or none that makes sense, is not asked in a hot loop", async (t) => {
  const { client, sockets, clock } = await play(t, { fetch: () => Promise.reject(new Error("nobody")) });
  for (const [wish, least, most] of [[0, 250, 30_000], [10 ** 12, 3_600_000, 3_600_000]]) {
    sockets.at(-1).hear(WELCOME, joinedAt(0), { type: "bye", reconnect_after_ms: wish });
    sockets.at(-1).end(1001);
    const pause = client.state.retryAt - performance.now();
    assert.ok(pause >= least && pause <= most, `${wish}: ${pause}`);
    clock.tick(pause);
  }
});

test("the pauses of many are spread, over half of their length", async (t) => {
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
  test(`a server that closes with ${code} is left alone for five seconds`, async (t) => {
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

test("no more than a second's worth is saved up, however long nothing was sent", async (t) => {
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
  test(`after ${code} it waits, as long as the server says, and never asks in a hot loop`, async (t) => {
    const { room, sockets, clock } = await play(t);
    sockets[0].hear(WELCOME, joinedAt(0));
    room.send("a").done.catch(() => {});
    const sends = () => sockets[0].said.filter(({ type }) => type === "send");
    for (const [wish, pause] of [[undefined, 2000], [700, 700], [0, 100], [-5, 100]]) {
      const before = sends().length;
      sockets[0].hear({ type: "error", id: sends().at(-1).id, code, message: "full", retry_after_ms: wish });
      assert.equal(sends().length, before, "not at once");
      clock.tick(pause - 1);
      assert.equal(sends().length, before);
      clock.tick(2);
      assert.equal(sends().length, before + 1);
    }
    assert.equal(new Set(sends().map(({ key }) => key)).size, 1, "always under its key");
  });
}

test("a join that the store cannot answer is asked again after a pause, not in a hot loop", async (t) => {
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


for (const [what, by] of [["ahead", 9 * 86_400_000], ["back", -9 * 86_400_000], ["by decades", 30 * 365 * 86_400_000]]) {
  test(`a date that is set ${what} loses nothing and delays nothing`, async (t) => {
    const { client, room, sockets, clock } = await play(t);
    const limits = { in_flight: 100, max_message_size: 1000, request_rate: 10 };
    sockets[0].hear({ ...WELCOME, session: "t1", limits }, joinedAt(0));
    sockets[0].end();
    const sends = Array.from({ length: 15 }, (_, n) => room.send(n));
    clock.step(by);
    // The pause is as long as it was.
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
    // What the server refuses for now waits by the same clock.
    socket.hear({ type: "error", id: said()[0].id, code: "storage_unavailable", message: "full", retry_after_ms: 700 });
    clock.step(-by);
    clock.tick(701);
    assert.equal(said().length, 16);
    // And it is neither taken for silent nor kept for alive.
    clock.step(by);
    clock.tick(5000);
    assert.equal(client.state.phase, "open");
    assert.equal(socket.said.filter(({ type }) => type === "ping").length, 0);
    clock.tick(60_000);
    assert.notEqual(client.state.phase, "open");
    for (const { done } of sends) done.catch(() => {});
  });
}


test("what is longer than the server takes is refused for good, and what is behind it goes on", async (t) => {
  const { client, room, sockets } = await play(t);
  const fate = room.send("x".repeat(2000)).done.catch(({ code, message }) => [code, message]);
  const short = room.send("short");
  assert.equal(room.excess("x".repeat(2000)), 0, "nothing is known yet");
  sockets[0].hear({ ...WELCOME, session: "t1" }, joinedAt(0));
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["short"]);
  const [code, words] = await fate;
  assert.equal(code, "too_long");
  assert.match(words, /^it is \d+ bytes longer than this server takes$/);
  sockets[0].hear({ type: "ack", id: sockets[0].said[0].id, room: "r1", seq: 1, at: 1 });
  assert.equal((await short.done).seq, 1);
  // A signal is not sent either: it would end the connection.
  room.signal("x".repeat(2000));
  assert.equal(sockets[0].said.length, 1);
  // Lowered meanwhile: it closes with 1009, and says less when one comes back.
  const middle = room.send("y".repeat(700)).done.catch(({ code }) => code);
  const next = room.send("next");
  sockets[0].end(1009);
  client.check();
  const { said } = sockets[1];
  sockets[1].hear({ ...WELCOME, session: "x" });
  const limits = { ...WELCOME.limits, max_message_size: 500 };
  sockets[1].hear({ ...WELCOME, id: said[0].id, session: "t2", limits }, joinedAt(1, 2));
  assert.deepEqual(said.slice(1).map(({ body }) => body), ["next"]);
  assert.equal(await middle, "too_long");
  next.done.catch(() => {});
});

test("a close for size that the limits do not explain is never answered by the same bytes", async (t) => {
  const { client, room, sockets } = await play(t);
  const bodies = ["a", "b".repeat(700), "c".repeat(700), "d".repeat(800), "e"];
  const fates = bodies.map((body) => room.send(body).done.then(() => "stored", ({ code }) => code));
  const limits = { ...WELCOME.limits, in_flight: 4 };
  const seen = [];
  sockets[0].hear({ ...WELCOME, limits, session: "t0" }, joinedAt(0));
  let seq = 0;
  // Something on the way takes no more than 600 bytes.
  for (let tries = 0; tries < 20; tries += 1) {
    const socket = sockets.at(-1);
    let isEnded = false;
    for (let at = 0; at < socket.said.length && !isEnded; at += 1) {
      const { type, id, body } = socket.said[at];
      if (type !== "send") continue;
      if (body.length > 600) {
        seen.push(JSON.stringify(socket.said[at].key));
        socket.end(1009);
        isEnded = true;
      } else socket.hear({ type: "ack", id, room: "r1", seq: (seq += 1), at: 1 });
    }
    if (!isEnded) break;
    client.check();
    const next = sockets.at(-1);
    next.hear({ ...WELCOME, limits, session: "x" });
    next.hear({ ...WELCOME, limits, id: next.said[0].id, session: `t${tries}` }, joinedAt(seq, seq + 1));
  }
  assert.deepEqual(await Promise.all(fates), ["stored", "too_long", "too_long", "too_long", "stored"]);
  assert.ok(seen.length <= 2, "after the first such close one at a time, so that the next shows which it was");
});

// What is said is settled, by an answer or an end.

test("where there is no WebSocket, a rejected promise says so, and what to do", async (t) => {
  const client = connect({ base: "http://h/", WebSocket: null });
  const room = client.join("r1");
  const states = [];
  client.on("state", (state) => states.push(state.phase));
  await assert.rejects(room.send("a").done, { code: "unsupported", message: /version 22.*package ws/s });
  assert.deepEqual([client.state.phase, states], ["stopped", ["stopped"]]);
  await assert.rejects(room.send("later").done, { code: "unsupported" });
  client.close();
  await assert.rejects(room.send("after the end").done, { code: "closed" });
});

test("a send is settled by the end of the session, by close and by leave, and never by time alone", async (t) => {
  const { client, room, sockets, clock } = await play(t);
  const fate = ({ done }) => done.then(() => "stored", ({ code }) => code);
  let isSettled = false;
  const waiting = room.send("waits");
  waiting.done.catch(() => {}).then(() => (isSettled = true));
  for (let hours = 0; hours < 48; hours += 1) {
    clock.tick(3_600_000);
    if (sockets.at(-1).readyState < 2) sockets.at(-1).end();
    await turn();
  }
  assert.equal(isSettled, false);
  client.retry();
  sockets.at(-1).hear(WELCOME, joinedAt(0));
  sockets.at(-1).end(4001);
  assert.equal(await fate(waiting), "moved");
  client.retry();
  sockets.at(-1).hear(WELCOME, joinedAt(0));
  const other = client.join("r2");
  const [left, closed] = [other.send("left"), room.send("closed")];
  other.leave();
  assert.equal(await fate(left), "closed");
  client.close();
  assert.equal(await fate(closed), "closed");
});

test("a body that JSON cannot say is refused at once; what is changed later is not said", async (t) => {
  const { room, sockets } = await play(t);
  sockets[0].hear(WELCOME);
  const circle = {};
  circle.self = circle;
  await assert.rejects(room.send(circle).done, { code: "bad_field" });
  await assert.rejects(room.send(1n).done, { code: "bad_field" });
  const body = { text: "as it was" };
  room.send(body).done.catch(() => {});
  body.text = "changed";
  sockets[0].hear(joinedAt(0));
  assert.deepEqual(sockets[0].said.map(({ body }) => body), [{ text: "as it was" }]);
});

test("the guest's token of a sealed socket is not kept: who came back with it would be a guest for good", async (t) => {
  const { server, pin } = await sealedServer(t);
  const tokens = [];
  const store = { load: () => null, save: ({ token }) => void tokens.push(token) };
  const client = connect({ base: server.base, name: "ann", WebSocket, pin, store });
  t.after(() => client.close());
  const names = [];
  client.on("welcome", ({ session, name }) => names.push([session, name]));
  const room = client.join("r1");
  await until("live", () => room.joined);
  const [[guests, name]] = names;
  assert.notEqual(name, "ann", "the first welcome was a guest's");
  assert.ok(!tokens.includes(guests), "its token was kept");
  assert.equal(typeof tokens.at(-1), "string");
});

test("two that ask for one lease at the same moment: one gets it, over locks and without", async (t) => {
  const { takeLease } = await load("racerd/lease.js");
  // Node has BroadcastChannel, and from some version on locks; pages of plain http have none.
  const held = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  t.after(() => (held ? Object.defineProperty(globalThis, "navigator", held) : delete globalThis.navigator));
  // The smaller number asks first, last, and in between; a moment apart or in the same one.
  for (const numbers of [[0.1, 0.5, 0.9], [0.9, 0.5, 0.1], [0.5, 0.1, 0.9]]) {
    const chances = [...numbers];
    const chance = t.mock.method(Math, "random", () => chances.shift());
    const name = `lease ${numbers}`;
    const asked = [takeLease(name, 0)];
    await new Promise((resolve) => setTimeout(resolve, 40));
    asked.push(takeLease(name, 0), takeLease(name, 0));
    const releases = await Promise.all(asked);
    chance.mock.restore();
    assert.equal(releases.filter(Boolean).length, 1, `${numbers}`);
    assert.equal(await takeLease(name, 0), null, "it is held");
    releases.find(Boolean)();
    const again = await takeLease(name, 0);
    assert.ok(again, "it was given back");
    again();
  }
});

test("a server that goes says when to come back", async (t) => {
  const { client, sockets } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(0), { type: "bye", reason: "shutdown", reconnect_after_ms: 4321 });
  sockets[0].end(1001);
  assert.deepEqual(client.state, { phase: "waiting", retryAt: performance.now() + 4321, leaving: true, reason: undefined });
});

test("some ends are final, until one asks", async (t) => {
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

test("names by which a room is known", async (t) => {
  const { room, sockets } = await play(t);
  const members = (...names) => ({ type: "members", room: "r1", count: names.length, members: names.map((name) => ({ member: `m-${name}`, name })) });
  const presence = (count, ...events) => ({ type: "presence", room: "r1", count, events: events.map(([event, name]) => ({ event, member: `m-${name}`, name })) });
  const known = () => [room.count, [...room.members.values()].join()];
  sockets[0].hear(WELCOME, joinedAt(0), members("ann", "bob"));
  assert.deepEqual(known(), [2, "ann,bob"]);
  sockets[0].hear(presence(2, ["join", "carl"], ["leave", "bob"]));
  assert.deepEqual(known(), [2, "ann,carl"]);
  sockets[0].hear(presence(150));
  assert.deepEqual(known(), [150, ""], "of a large room only the count is known");
  sockets[0].hear(members("ann"));
  assert.deepEqual(known(), [1, "ann"]);
});

test("a member's member", async (t) => {
  const server = await Server.start(t);
  const { room } = await joined(t, server.base);
  const events = [];
  room.on("presence", (list) => events.push(...list.map(({ event, name }) => `${event} ${name}`)));
  const signals = [];
  room.on("signal", (signal) => signals.push(signal.body));
  const bob = await Member.join(server, "r1", "bob");
  bob.say({ type: "signal", body: { typing: true } });
  await until("the signal", () => signals.length === 1);
  await bob.leave();
  await until("gone", () => events.length === 2);
  assert.deepEqual(events, ["join bob", "leave bob"]);
});
