// Talks in a room with others, by Node's ws. Prints what it heard, as one JSON array.
//
// usage: talk.mjs ws://ADDRESS ROOM NAME MEMBERS
import assert from "node:assert";
import { createRequire } from "node:module";

const WebSocket = createRequire(process.env.RACERD_NODE_PATH + "/")("ws");
const [address, room, name, count] = process.argv.slice(2);
const members = Number(count);
const deadline = setTimeout(() => assert.fail("not done within 60 s"), 60_000);

const socket = new WebSocket(`${address}/rooms/${room}/ws?name=${name}`);
const heard = [];
const values = [];
let wake = () => {};
socket.on("message", (data, isBinary) => {
  assert(!isBinary);
  values.push(JSON.parse(data.toString()));
  wake();
});
const closed = new Promise((resolve) => socket.on("close", (code, reason) => resolve([code, reason.toString()])));

// The first value that is wanted; messages are kept on the way.
async function until(wanted) {
  for (;;) {
    while (values.length === 0) await new Promise((resolve) => (wake = resolve));
    const value = values.shift();
    assert.notEqual(value.type, "error", JSON.stringify(value));
    if (value.type === "message") heard.push([value.seq, value.from.name, value.body]);
    if (wanted(value)) return value;
  }
}
const send = (value) => socket.send(JSON.stringify(value));

assert.equal((await until((value) => value.type === "welcome")).name, name);
await until((value) => value.type === "joined");
for (;;) {
  send({ type: "members", id: 1 });
  // With an id it is the answer; without, the snapshot that follows a join.
  if ((await until((value) => value.type === "members" && value.id === 1)).count === members) break;
  await new Promise((resolve) => setTimeout(resolve, 200));
}

const bodies = [`${name}: κόσμε 😀 \u2028 é`, "long: " + "x".repeat(30_000), { from: name, list: [null, true, 1.5] }];
bodies.forEach((body, number) => send({ type: "send", id: 10 + number, key: `k${number}`, body }));
for (const number of bodies.keys()) await until((value) => value.type === "ack" && value.id === 10 + number);
while (heard.length < members * bodies.length) await until((value) => value.type === "message");
assert.deepEqual(heard.filter(([, who]) => who === name).map(([, , body]) => body), bodies);

// A ping of the protocol, with a payload, and one of racerd's own.
const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
socket.ping("are you there");
assert.equal(await pong, "are you there");
send({ type: "ping", id: 99 });
await until((value) => value.type === "pong" && value.id === 99);
socket.close(4321, "done");
assert.equal((await closed)[0], 4321);
clearTimeout(deadline);
console.log(JSON.stringify(heard));
