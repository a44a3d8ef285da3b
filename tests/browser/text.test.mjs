// Texts for times, and processing of other people's text, without a browser: elements are plain objects here.

import assert from "node:assert/strict";
import test from "node:test";
import { dayOf, dayText, isoTime, saidNode } from "../../src/web/page/text.js";
import { goesOn } from "../../src/web/page/row.js";

/** The part of a document that text.js needs. */
globalThis.document = {
  createElement: (tag) => ({ tag, attributes: {}, children: [], setAttribute(name, value) { this.attributes[name] = value; }, append(...more) { this.children.push(...more); } }),
};

/** Calls `act` in this time zone. */
function inZone(zone, act) {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    act();
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
}

test("days begin at midnight in the reader's time zone, and consecutive days differ by one", () => {
  for (const zone of ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu"]) {
    inZone(zone, () => {
      const begun = new Date(2026, 0, 1);
      for (let day = 0; day < 366; day += 1) {
        const midnight = new Date(2026, 0, 1 + day).getTime();
        assert.equal(dayOf(midnight) - dayOf(begun.getTime()), day, `${zone}, day ${day}`);
        assert.equal(dayOf(midnight - 1), dayOf(midnight) - 1, `${zone}, before the midnight of day ${day}`);
      }
    });
  }
});

test("labels of days: today, yesterday, the day of the week, and the year of distant or future days", () => {
  inZone("UTC", () => {
    const now = Date.UTC(2026, 2, 10, 0, 0, 1);
    const day = 86_400_000;
    assert.equal(dayText(now, now), "Today");
    assert.equal(dayText(now - 1500, now), "Yesterday", "1.5 s ago, before midnight");
    assert.match(dayText(now - 2 * day, now), /Sunday/);
    assert.doesNotMatch(dayText(now - 2 * day, now), /2026/);
    assert.doesNotMatch(dayText(now - 299 * day, now), /2025/);
    assert.match(dayText(now - 300 * day, now), /2025/);
    assert.match(dayText(Date.UTC(2019, 11, 31), now), /2019/);
    // From a server whose clock is ahead.
    assert.match(dayText(now + day, now), /2026/);
    assert.match(dayText(Date.UTC(2038, 0, 1), now), /2038/);
    for (const at of [2 ** 53, -(2 ** 53)]) assert.ok(dayText(at, now) && isoTime(at), "any clock can be shown, however wrong");
  });
});

test("messages stand under one name if minutes, author and day allow it", () => {
  inZone("UTC", () => {
    const midnight = Date.UTC(2026, 2, 10);
    const said = (at, name = "ann", member = "m1") => ({ at, from: { name, member } });
    assert.equal(goesOn(said(midnight + 60_000), said(midnight)), true);
    assert.equal(goesOn(said(midnight + 300_000), said(midnight)), false);
    assert.equal(goesOn(said(midnight), said(midnight - 1)), false, "another day");
    assert.equal(goesOn(said(midnight + 60_000), said(midnight + 60_000)), true);
    assert.equal(goesOn(said(midnight), said(midnight + 7_200_000)), false, "the clock was set back by hours");
    assert.equal(goesOn(said(midnight), said(midnight + 60_001)), false, "the clock was set back by a minute");
    assert.equal(goesOn(said(midnight, "ann", "m2"), said(midnight)), false, "another ann");
    assert.equal(goesOn(said(midnight, "bob", null), said(midnight, "ann", null)), false);
    assert.equal(goesOn(said(midnight), { at: midnight }), false);
    assert.equal(goesOn(said(midnight), null), false);
  });
});

/** Counts the characters that processing a text looks at, which is more reliable than its time. */
function reads(text) {
  let count = 0;
  const read = String.prototype.replace;
  const split = String.prototype.split;
  String.prototype.replace = function (...args) { count += this.length; return read.apply(this, args); };
  String.prototype.split = function (...args) { count += this.length; return split.apply(this, args); };
  try {
    return [saidNode({ body: { text } }), () => count];
  } finally {
    String.prototype.replace = read;
    String.prototype.split = split;
  }
}

test("brackets and punctuation behind links take linear time", () => {
  const links = (node) => node.children.filter(({ tag }) => tag === "a").map(({ children }) => children[0]);
  const cases = [
    [`http://a${")".repeat(32_000)}`, ["http://a"]],
    [`http://a${".)".repeat(16_000)}`, ["http://a"]],
    [`http://a${"(".repeat(16_000)}${")".repeat(16_001)}`, [`http://a${"(".repeat(16_000)}${")".repeat(16_000)}`]],
    ["http://a/) ".repeat(2900), Array(2900).fill("http://a/")],
    [`http://a${"]}).".repeat(16_000)}`, ["http://a"]],
    ["http://".repeat(9000), []],
    [`http://a/${"x".repeat(60_000)}`, [`http://a/${"x".repeat(60_000)}`]],
  ];
  for (const [text, wanted] of cases) {
    const [node, looked] = reads(text);
    if (wanted.length > 0) assert.deepEqual(links(node), wanted, text.slice(0, 20));
    assert.ok(looked() <= 4 * text.length, `${looked()} characters looked at for ${text.length}`);
    assert.equal(node.children.map((child) => child.children?.[0] ?? child).join(""), text, "nothing is lost");
  }
});
