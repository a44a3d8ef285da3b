// Other people's names and bodies are shown as text, whatever they contain.

import assert from "node:assert/strict";
import test from "node:test";
import { answerInstead } from "./scenes.mjs";
import { enter, Member, profile, say, Server, shows, startBrowser, stopBrowser, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const TEXTS = [
  "<img src=x onerror=alert(1)>",
  "</script><script>alert(1)</script>",
  "<svg/onload=alert(1)>",
  "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
  "<style>body{display:none}</style>",
  "<a href='javascript:alert(1)'>x</a>",
  "javascript:alert(1)",
  "JaVaScRiPt://%0aalert(1)",
  "data:text/html,<script>alert(1)</script>",
  "&lt;b&gt;&amp;&#x3c;script&#x3e;",
  "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= 1 %>",
  "\u001b[2J\u001b[31mred",
  "\n2026-01-01 ERROR forged",
  "\u202egnp.exe\u202c and on",
  "\u2066\u2067\u2068 isolates that never end",
  `a${"\u0301".repeat(10_000)}`,
  "\u0000 nul and \u2028 lines \u2029 and \ufeff",
  "x".repeat(5000),
];

/** Makes a profile that fails the test if a script runs, a window opens or the policy refuses something. */
async function guarded(t) {
  const context = await profile(t);
  const alarms = [];
  context.on("dialog", (dialog) => {
    alarms.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on("page", (page) => page.on("popup", () => alarms.push("a window was opened")));
  await context.exposeFunction("alarm", (what) => alarms.push(what));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => window.alarm(`refused: ${event.violatedDirective} ${event.blockedURI}`));
    window.alert = () => window.alarm("a script ran");
  });
  t.after(() => assert.deepEqual(alarms, []));
  return context;
}

/** Returns the kinds of elements in the log and around it. */
const kinds = (page) => page.evaluate(() => {
  const all = document.querySelectorAll("#log *, #unsent *, #typing *, #people li *, #banner *, #text-fault *, #room-title *");
  return [...new Set([...all].map((element) => element.localName))].sort();
});

test("bodies stay text", async (t) => {
  const server = await Server.start(t);
  for (const text of TEXTS) await server.post("lobby", { text }, "mallory");
  const bodies = [null, true, 17, "<b>only text</b>", [1, "<i>"], { text: 5 }, { text: null }, {}, { html: "<b>x</b>" }, { text: { text: "<u>" } }];
  for (const body of bodies) await server.post("lobby", body, "mallory");
  const page = await enter(await guarded(t), server.base, "lobby", "ann");
  await shows(page, [...TEXTS, ...bodies.map((body) => JSON.stringify(body))]);
  assert.deepEqual(await kinds(page), ["bdi", "button", "code", "div", "li", "ol", "p", "span", "time"]);
  // Heaped combining marks cover nothing else, and direction marks affect nothing else.
  const heights = await page.$$eval("#log .message", (rows) => rows.map((row) => row.getBoundingClientRect().height));
  assert.ok(heights[15] < 80, `${heights[15]} px for one letter`);
  const styles = await page.$$eval("#log .body", (all) => all.map((body) => [getComputedStyle(body).unicodeBidi, getComputedStyle(body).overflow].join()));
  assert.deepEqual([...new Set(styles)], ["isolate,hidden"]);
  // Own messages, too.
  await say(page, "<img src=x onerror=alert(1)>");
  await until("said", () => page.$$eval("#log .own .body", (all) => all.length === 1 && all[0].childElementCount === 0));
});

test("names stay text everywhere", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await guarded(t), server.base, "lobby", "ann");
  const hostile = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)//", "<b onclick=alert(1)>x", "javascript:alert(1)", `z${"\u0301".repeat(31)}`];
  const members = [];
  for (const name of hostile) members.push(await Member.join(server, "lobby", name));
  await until("all are here", async () => (await page.$$("#people li")).length === hostile.length + 1);
  const listed = await page.$$eval("#people li .name", (all) => all.map((name) => name.textContent));
  assert.deepEqual([...listed].sort(), [...hostile, "ann"].sort());
  await page.waitForSelector("#log .presence");
  for (const member of members.slice(0, 2)) member.say({ type: "signal", body: { typing: true } });
  await page.waitForFunction(() => document.querySelectorAll("#typing bdi").length === 2);
  for (const [index, member] of members.entries()) member.say({ type: "send", id: 1, body: { text: `${index}` } });
  await until("all have spoken", async () => (await page.$$("#log .who .name")).length === hostile.length);
  assert.deepEqual((await page.$$eval("#log .who .name", (all) => all.map((name) => name.textContent))).sort(), [...hostile].sort());
  assert.deepEqual(await kinds(page), ["bdi", "button", "div", "li", "ol", "p", "span", "time"]);
  assert.deepEqual(await page.evaluate(() => [...new Set([...document.querySelectorAll(".name")].map((name) => getComputedStyle(name).unicodeBidi))]), ["isolate"]);
  for (const member of members) await member.leave();
});

test("signals and messages of unknown shapes are ignored", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await guarded(t), server.base, "lobby", "ann");
  const member = await Member.join(server, "lobby", "mallory");
  for (const body of [null, 1, "typing", [], { typing: "yes" }, { typing: {} }, { __proto__: { typing: true } }]) member.say({ type: "signal", body });
  member.say({ type: "send", id: 1, body: { text: "after", __proto__x: 1 } });
  await shows(page, ["after"]);
  assert.equal(await page.textContent("#typing"), "");
});

test("the server's error messages stay text", async (t) => {
  const server = await Server.start(t);
  const context = await guarded(t);
  const markup = "<img src=x onerror=alert(1)>";
  await answerInstead(context, "send", ({ id }) => [
    { type: "error", code: "bad_field", message: markup },
    { type: "error", id, code: "bad_field", message: markup },
  ]);
  const page = await enter(context, server.base, "a~b.c-d_e", "ann");
  assert.equal(await page.textContent("#room-title"), "a~b.c-d_e");
  await say(page, "refused");
  await page.waitForSelector("#unsent .failed");
  assert.ok((await page.textContent("#unsent .failed")).includes(markup));
  await page.waitForFunction((markup) => document.getElementById("text-fault").textContent === markup, markup);
  assert.deepEqual((await kinds(page)).filter((kind) => kind === "img"), []);
});

test("links are only http and https, and send no referrer", async (t) => {
  const server = await Server.start(t);
  const cases = [
    ["see http://example.org", ["http://example.org"]],
    ["HTTPS://EXAMPLE.org/A?b=c&d#e.", ["HTTPS://EXAMPLE.org/A?b=c&d#e"]],
    ["(https://example.org/a_(b)) and https://example.org/x,", ["https://example.org/a_(b)", "https://example.org/x"]],
    ["“https://example.org/q”… https://example.org/[1]", ["https://example.org/q", "https://example.org/[1]"]],
    ["<https://example.org/angle>", ["https://example.org/angle"]],
    ["javascript:alert(1) JAVASCRIPT:alert(1) data:text/html,x vbscript:x file:///etc/passwd ftp://a.b", []],
    ["javascript://https://example.org/%0aalert(1)", ["https://example.org/%0aalert(1)"]],
    ["https:// http://", []],
    ["https://exa\u202emple.org/", ["https://exa"]],
    ["https://[::1 and http://a:b:c/", []],
    ["https://пример.испытание/путь", ["https://пример.испытание/путь"]],
  ];
  for (const [text] of cases) await server.post("lobby", { text });
  const page = await enter(await guarded(t), server.base, "lobby", "ann");
  await shows(page, cases.map(([text]) => text));
  const links = await page.$$eval("#log .body", (all) => all.map((body) => [...body.querySelectorAll("a")].map((link) => link.textContent)));
  assert.deepEqual(links, cases.map(([, links]) => links));
  const attributes = await page.$$eval("#log .body a", (all) => all.map(({ protocol, rel, target }) => [protocol, rel, target].join(" ")));
  for (const each of attributes) assert.match(each, /^https?: noopener noreferrer nofollow _blank$/);
});
