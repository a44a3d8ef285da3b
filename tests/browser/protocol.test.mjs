// What the client of racerd.js does with what a server says: messages, resumes, refusals, and how sends are settled.

import assert from "node:assert/strict";
import test from "node:test";
import { bodies, connect, joinedAt, message, play, turn, WELCOME } from "./played.mjs";

test("each message is emitted once, and holes are reported", async (t) => {
  const { heard, holes, sockets } = await play(t);
  assert.equal(sockets[0].url, "ws://h/chat/rooms/r1/ws?last=50&name=ann");
  sockets[0].hear(WELCOME, joinedAt(3, 1), message(1), message(2), message(2), message(1), message(3));
  assert.deepEqual(bodies(heard), [1, 2, 3]);
  sockets[0].hear({ type: "gap", room: "r1", after: 3, from: 10 }, message(10), { type: "unheard-of" }, message(12), message(11));
  assert.deepEqual(bodies(heard), [1, 2, 3, 10, 12]);
  assert.deepEqual(holes.map(({ after, from }) => [after, from]), [[3, 10], [10, 12]]);
});

test("a message that the server cannot read any more keeps its place and is marked as damaged", async (t) => {
  const { heard, sockets } = await play(t);
  sockets[0].hear(WELCOME, joinedAt(3, 1), message(1), { ...message(2), body: null, unreadable: true }, message(3));
  assert.deepEqual(heard.map(({ seq, unreadable }) => [seq, unreadable]), [[1, undefined], [2, "damaged"], [3, undefined]]);
});

test("the client continues after the last message it saw; another log, or a shorter one, counts as new", async (t) => {
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

test("the client resumes by token and cursors, and sends again in order under the same keys", async (t) => {
  const { client, room, heard, sockets } = await play(t);
  const welcome = (session, more = {}) => ({ ...WELCOME, session, ...more });
  sockets[0].hear(welcome("t1"), joinedAt(1, 1), message(1));
  for (const text of ["a", "b", "c"]) room.send(text).done.catch(() => {});
  const first = sockets[0].said.map(({ key, body }) => [key, body]);
  assert.match(first[0][0], /^[A-Za-z0-9_-]{22}$/);
  sockets[0].hear({ type: "pong", session: "t2" });
  for (let times = 1; times <= 2; times += 1) {
    // The answer with the next token was lost the first time, so the same token is sent again.
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

test("after a session has ended, messages in flight fail and queued ones are sent", async (t) => {
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

test("a join whose answer was lost is sent again, and the room begins anew", async (t) => {
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

test("members are away and come back", async (t) => {
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

test("no more messages are in flight than the server accepts, and they go out in order", async (t) => {
  const { room, sockets } = await play(t);
  for (const text of ["a", "b", "c"]) room.send(text).done.catch(() => {});
  sockets[0].hear(WELCOME);
  assert.deepEqual(sockets[0].said, [], "nothing is sent before the room is joined");
  sockets[0].hear(joinedAt(0));
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["a", "b"]);
  sockets[0].hear({ type: "ack", id: sockets[0].said[0].id, room: "r1", seq: 1, at: 1 });
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["a", "b", "c"]);
  assert.equal(new Set(sockets[0].said.map(({ key }) => key)).size, 3);
});

test("a message longer than the server accepts fails for good, and those behind it are sent", async (t) => {
  const { client, room, sockets } = await play(t);
  const fate = room.send("x".repeat(2000)).done.catch(({ code, message }) => [code, message]);
  const short = room.send("short");
  assert.equal(room.excess("x".repeat(2000)), 0, "the limits are not known yet");
  sockets[0].hear({ ...WELCOME, session: "t1" }, joinedAt(0));
  assert.deepEqual(sockets[0].said.map(({ body }) => body), ["short"]);
  const [code, words] = await fate;
  assert.equal(code, "too_long");
  assert.match(words, /^the message is \d+ bytes longer than this server accepts$/);
  sockets[0].hear({ type: "ack", id: sockets[0].said[0].id, room: "r1", seq: 1, at: 1 });
  assert.equal((await short.done).seq, 1);
  // A long signal is not sent either, because it would end the connection.
  room.signal("x".repeat(2000));
  assert.equal(sockets[0].said.length, 1);
  // The server lowered its limit: it closes with 1009, and announces the new limit to the next connection.
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

test("after a close for size that the limits do not explain, the same bytes are never sent again", async (t) => {
  const { client, room, sockets } = await play(t);
  const bodies = ["a", "b".repeat(700), "c".repeat(700), "d".repeat(800), "e"];
  const fates = bodies.map((body) => room.send(body).done.then(() => "stored", ({ code }) => code));
  const limits = { ...WELCOME.limits, in_flight: 4 };
  const seen = [];
  sockets[0].hear({ ...WELCOME, limits, session: "t0" }, joinedAt(0));
  let seq = 0;
  // A proxy, say, lets through no more than 600 bytes.
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
  assert.ok(seen.length <= 2, "after the first such close, messages go out one at a time, so that the next close shows which was too long");
});

test("without a WebSocket, a rejected promise says what to do", async (t) => {
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

test("a send is settled when the session ends, the client closes or the room is left, and never by time alone", async (t) => {
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

test("a body that is not JSON is refused at once; later changes to a body have no effect", async (t) => {
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

test("a room knows its members' names, or their number only", async (t) => {
  const { room, sockets } = await play(t);
  const members = (...names) => ({ type: "members", room: "r1", count: names.length, members: names.map((name) => ({ member: `m-${name}`, name })) });
  const presence = (count, ...events) => ({ type: "presence", room: "r1", count, events: events.map(([event, name]) => ({ event, member: `m-${name}`, name })) });
  const known = () => [room.count, [...room.members.values()].join()];
  sockets[0].hear(WELCOME, joinedAt(0), members("ann", "bob"));
  assert.deepEqual(known(), [2, "ann,bob"]);
  sockets[0].hear(presence(2, ["join", "carl"], ["leave", "bob"]));
  assert.deepEqual(known(), [2, "ann,carl"]);
  sockets[0].hear(presence(150));
  assert.deepEqual(known(), [150, ""], "in a large room only the count is known");
  sockets[0].hear(members("ann"));
  assert.deepEqual(known(), [1, "ann"]);
});
