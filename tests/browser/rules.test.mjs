// Rules that the page shares with the server and the command line, against the same vectors: what a name may be, and what
// may stand behind a link's #. No browser is needed.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { readFragment } from "../../src/web/page/address.js";
import { readName } from "../../src/web/page/names.js";

const vectors = async (name) => JSON.parse(await readFile(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

test("names, by the vectors that the server has, too", async () => {
  const all = await vectors("names");
  assert.ok(all.length > 120);
  for (const { name, form, refused } of all) {
    const read = readName(name);
    assert.equal(read.fault, refused ?? "", JSON.stringify(name.slice(0, 80)));
    if (refused === undefined) {
      assert.equal(read.name, form);
      assert.deepEqual(readName(form), { name: form, fault: "" }, "the form of a name is its own form");
    }
  }
});

test("half a surrogate is no name", () => {
  for (const name of ["\ud800", "ann\udc00", "\udc00\ud800"]) assert.equal(readName(name).fault, "noncharacter");
});

test("fragments, by the vectors that the command line has, too", async () => {
  const all = await vectors("fragments");
  assert.ok(all.length > 30);
  for (const { fragment, fault = "", ...keys } of all) {
    assert.deepEqual(readFragment(fragment), fault ? { fault } : { ...keys, fault }, JSON.stringify(fragment));
  }
});
