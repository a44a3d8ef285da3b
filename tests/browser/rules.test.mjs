// Rules that the page shares with the server and the command line, tested by the same vectors: names, and the fragments
// of links. No browser is needed.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { readFragment } from "../../src/web/page/address.js";
import { readName } from "../../src/web/page/names.js";

const vectors = async (name) => JSON.parse(await readFile(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

test("names follow the server's vectors", async () => {
  const all = await vectors("names");
  assert.ok(all.length > 120);
  for (const { name, form, refused } of all) {
    const read = readName(name);
    assert.equal(read.fault, refused ?? "", JSON.stringify(name.slice(0, 80)));
    if (refused === undefined) {
      assert.equal(read.name, form);
      assert.deepEqual(readName(form), { name: form, fault: "" }, "a normalised name stays as it is");
    }
  }
});

test("each character is refused in names, or taken for a space, as the server does", async () => {
  const listed = await vectors("characters");
  const kinds = new Map(listed.flatMap(({ from, to, is }) => (
    Array.from({ length: parseInt(to, 16) - parseInt(from, 16) + 1 }, (_, index) => [parseInt(from, 16) + index, is])
  )));
  for (let code = 0; code <= 0x10ffff; code += 1) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const { name, fault } = readName(`a${String.fromCodePoint(code)}b`);
    assert.equal(fault || (name === "a b" ? "space" : ""), kinds.get(code) ?? "", `U+${code.toString(16)}`);
  }
});

test("an unpaired surrogate is refused in names", () => {
  for (const name of ["\ud800", "ann\udc00", "\udc00\ud800"]) assert.equal(readName(name).fault, "noncharacter");
});

test("fragments follow the command line's vectors", async () => {
  const all = await vectors("fragments");
  assert.ok(all.length > 30);
  for (const { fragment, fault = "", ...keys } of all) {
    assert.deepEqual(readFragment(fragment), fault ? { fault } : { ...keys, fault }, JSON.stringify(fragment));
  }
});
