// Listens to a room by Node's eventsource, a client of the HTML standard's event streams. Prints each event as one JSON
// line, [type, body or data], until it has heard a message "end". What breaks, it mends by itself.
//
// usage: events.mjs http://ADDRESS/rooms/ROOM/events
import assert from "node:assert";
import { createRequire } from "node:module";

const { EventSource } = createRequire(process.env.RACERD_NODE_PATH + "/")("eventsource");
setTimeout(() => assert.fail("not done within 60 s"), 60_000).unref();

const source = new EventSource(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
for (const type of ["joined", "gap", "lagging", "bye", "presence"]) {
  source.addEventListener(type, (event) => say([type, JSON.parse(event.data).recovered ?? null]));
}
source.addEventListener("message", (event) => {
  const message = JSON.parse(event.data);
  assert.equal(event.lastEventId.split(":")[1], String(message.seq));
  say(["message", message.body]);
  if (message.body === "end") source.close();
});
source.addEventListener("error", () => assert.notEqual(source.readyState, EventSource.CLOSED, "it gave up"));
