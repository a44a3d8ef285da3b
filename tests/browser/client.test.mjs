// racerd.js in Node, against the real server, over a relay that loses data.

import assert from "node:assert/strict";
import test from "node:test";
import { sealedServer } from "./noise.mjs";
import { bodies, connect, load } from "./played.mjs";
import { stored } from "./scenes.mjs";
import { Member, relay, Server, until, WebSocket } from "./support.mjs";

async function joined(t, base, options = {}) {
  const client = connect({ base, name: "ann", WebSocket, ...options });
  t.after(() => client.close());
  const room = client.join("r1", { last: 50 });
  const heard = [];
  room.on("message", (message) => heard.push(message));
  await until("live", () => room.joined && room.members.size > 0);
  return { client, room, heard };
}

test("one socket serves several rooms, and own messages arrive with their keys", async (t) => {
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

test("after a loss, the client is back in all of its rooms and misses nothing", async (t) => {
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

test("a message that never reached the server is sent once", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const { client, room, heard } = await joined(t, line.base);
  line.holdsUp = true;
  const sends = ["one", "two", "two"].map((text) => room.send({ text }));
  line.cut();
  await until("lost", () => client.state.phase === "waiting");
  // A message sent without a connection goes behind the others.
  sends.push(room.send({ text: "three" }));
  line.mend();
  const acks = await Promise.all(sends.map(({ done }) => done));
  assert.deepEqual(acks.map(({ seq }) => seq), [1, 2, 3, 4]);
  assert.deepEqual(await stored(server, "r1"), ["one", "two", "two", "three"]);
  await until("heard", () => heard.length === 4);
  assert.deepEqual(heard.map(({ key }) => key), sends.map(({ key }) => key));
});

test("a message that was stored but not acknowledged is sent again under its key, and stored once", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const { client, room, heard } = await joined(t, line.base);
  line.losesDown = true;
  // Equal bodies, between other members' messages.
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

test("an old socket that is still open is replaced at once by the same member; what it brings late is not stored twice", async (t) => {
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
  assert.deepEqual(await stored(server, "r1"), ["late 1", "late 2", "late 3"]);
  assert.deepEqual([room.members.size, events], [2, []]);
  const seen = bob.values.filter(({ type }) => type === "presence").flatMap(({ events }) => events).map(({ event }) => event);
  assert.deepEqual(seen, ["join"]);
});

test("after kill -9 the client resumes as the same member in all of its rooms, also if the first answer was lost", async (t) => {
  const server = await Server.start(t);
  let answers = 0;
  /** Terminates instead of delivering the first answer to a resume. */
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
  // The server makes the next token, which does not arrive.
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

test("whoever comes back shows its latest token with the upgrade; what was kept instead of a token is not shown", async (t) => {
  const server = await Server.start(t);
  const offers = [];
  class Spy extends WebSocket {
    constructor(url, protocols) {
      offers.push(protocols);
      super(url, protocols);
    }
  }
  const { client } = await joined(t, server.base, { WebSocket: Spy });
  const { member } = client;
  let token;
  client.on("welcome", ({ session }) => (token = session));
  for (let times = 0; times < 2; times += 1) {
    const before = token;
    await server.kill();
    await until("lost", () => client.state.phase === "waiting");
    await server.restart();
    client.check();
    await until("back", () => client.state.phase === "open");
    assert.notEqual(token, before);
    if (before) assert.deepEqual(offers.at(-1), ["racerd.v1", `racerd.session.${before}`]);
  }
  assert.equal(client.member, member);
  assert.deepEqual(offers[0], ["racerd.v1"]);
  for (const kept of ["not a token", "", "x".repeat(10_000), 7, null]) {
    const store = { load: () => ({ tab: "tab", name: "ann", pin: undefined, token: kept, session: "s" }), save: () => {} };
    const other = connect({ base: server.base, name: "ann", WebSocket: Spy, store });
    other.join("r1");
    await until("open", () => other.state.phase === "open");
    assert.ok(offers.at(-1).length === 1 || /^racerd\.session\.\d$/.test(offers.at(-1)[1]), `${kept}: ${offers.at(-1)}`);
    other.close();
  }
});

test("a message of which the new log knows nothing fails, and queued ones are sent", async (t) => {
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

test("a client that is closed with nothing left to say forgets its session, and its next one begins another", async (t) => {
  const server = await Server.start(t);
  let kept = null;
  const store = { load: () => kept, save: (saved) => void (kept = saved) };
  const members = [];
  for (const isOpen of [true, false, true]) {
    const client = connect({ base: server.base, name: "ann", WebSocket, store });
    const troubles = [];
    client.on("trouble", (error) => troubles.push(error));
    client.on("welcome", ({ member }) => members.push(member));
    const room = client.join("r1");
    await until("joined", () => room.joined);
    await room.send("x").done;
    assert.equal(typeof kept.token, "string");
    if (!isOpen) {
      await server.kill();
      await until("lost", () => client.state.phase === "waiting");
    }
    client.close();
    // Without a connection nothing was said to the server, and the session may go on.
    assert.equal(typeof kept.token === "string", !isOpen);
    assert.deepEqual(troubles, []);
    if (!isOpen) await server.restart();
  }
  assert.equal(new Set(members).size, 2, "the first has ended, the second went on");
});

test("messages that are too fast for the server wait, and each is stored once", async (t) => {
  const server = await Server.start(t, "--request-burst", "5", "--request-rate", "50", "--error-budget", "0");
  const { room, heard } = await joined(t, server.base);
  const texts = Array.from({ length: 40 }, (_, index) => `m${index}`);
  await Promise.all(texts.map((text) => room.send(text).done));
  await until("heard", () => heard.length === 40);
  // A refused message may be overtaken by one that the server accepts a moment later.
  assert.deepEqual([...bodies(heard)].sort(), [...texts].sort());
});

test("many messages go out at the announced rate, so that the server refuses none", async (t) => {
  const server = await Server.start(t, "--request-rate", "100", "--request-burst", "120", "--error-budget", "1");
  const { client, room, heard } = await joined(t, server.base);
  const troubles = [];
  client.on("trouble", (error) => troubles.push(error.code));
  const texts = Array.from({ length: 250 }, (_, index) => `m${index}`);
  await Promise.all(texts.map((text) => room.send(text).done));
  await until("heard", () => heard.length === 250);
  assert.deepEqual([bodies(heard), troubles], [texts, []]);
});

test("with presence \"count\" only the number of members arrives", async (t) => {
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

test("a refused upgrade is explained, and a final refusal stops the client", async (t) => {
  const server = await Server.start(t);
  // A socket that names another page's origin.
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

test("the guest's token of a sealed socket is not kept, because a client that resumed it would stay a guest", async (t) => {
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
  assert.notEqual(name, "ann", "the first welcome is a guest's");
  assert.ok(!tokens.includes(guests), "its token was kept");
  assert.equal(typeof tokens.at(-1), "string");
});

test("of pages that ask for one lease at the same moment, one gets it, also without Web Locks", async (t) => {
  const { takeLease } = await load("racerd/lease.js");
  // Node has BroadcastChannel and, in newer versions, locks; pages served over plain http have no locks.
  const held = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  t.after(() => (held ? Object.defineProperty(globalThis, "navigator", held) : delete globalThis.navigator));
  // The smallest number asks first, last and in between; a moment apart or in the same one.
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
    assert.equal(await takeLease(name, 0), null, "the lease is held");
    releases.find(Boolean)();
    const again = await takeLease(name, 0);
    assert.ok(again, "the lease was released");
    again();
  }
});

test("another member's signals and presence arrive", async (t) => {
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
