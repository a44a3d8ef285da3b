// Shows the members of a room, who joins and leaves, and who is typing. It sends nothing.

import { $, count, element, nameNode, namesNodes } from "./text.js";

/** A member counts as typing this long after the last notification, in milliseconds. */
const TYPING = 6000;
/** Joins and leaves are shown after this delay, so that a member who is back at once did neither. */
const CALM = 2000;
/** After a lost connection, members who come back within this time are not shown as joining. */
const RETURN = 60_000;

/** Sorts by the rules of the user's language, ignoring case, and numbers by value. */
const ORDER = new Intl.Collator(undefined, { numeric: true });
/** Beyond this many joins and leaves, a new line begins. */
const MOST_SHOWN = 500;

export class People {
  #room;
  #client;
  #log;
  #typing = new Map();
  #changes = new Map();
  #shownChanges = new Map();
  /** The members when the connection was lost, and the time of the loss. */
  #before = new Set();
  #lostAt = -Infinity;
  #timer = null;
  #calm = null;

  constructor({ room, client, log }) {
    this.#room = room;
    this.#client = client;
    this.#log = log;
    room.on("members", () => this.#showMembers());
    room.on("down", () => this.#quiet());
    room.on("presence", (events) => this.#changed(events));
    room.on("signal", ({ from, body }) => this.#signalled(from, body));
    room.on("message", ({ from }) => this.#stopped(from.member));
    this.#showMembers();
    this.#showTyping();
  }

  stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#calm);
    $("drawer").close();
  }

  #showMembers() {
    const { members, away, count: number } = this.#room;
    const known = [...members].sort(([, a], [, b]) => ORDER.compare(a, b));
    const rows = known.map(([member, name]) => {
      const made = element("li", {}, nameNode(name));
      if (member === this.#client.member) made.append(" ", element("span", { class: "badge you" }, "you"));
      if (away.has(member)) {
        made.className = "away";
        made.append(" ", element("span", { class: "state" }, "away"));
      }
      return made;
    });
    $("people").querySelector("ul").replaceChildren(...rows);
    const others = number - known.length;
    $("people-note").textContent =
      known.length === 0 ? (number > 0 ? `${count(number, "person", "people")} here. Names are not shown in large rooms.` : "")
        : others > 0 ? `and ${count(others, "other")}` : "";
    $("people-count").textContent = number > 0 ? count(number, "person", "people") : "…";
  }

  // Joins and leaves: one line until somebody speaks.

  #changed(events) {
    for (const { event, member, name } of events) {
      if (member === this.#client.member) continue;
      if (event === "leave" || event === "away") this.#stopped(member);
      if (event === "away" || event === "back") continue;
      if (event === "join" && this.#before.delete(name) && performance.now() - this.#lostAt < RETURN) continue;
      // By name, because a member who comes back after a loss may have a new id.
      const earlier = this.#changes.get(name);
      if (earlier && earlier !== event) this.#changes.delete(name);
      else this.#changes.set(name, event);
    }
    clearTimeout(this.#calm);
    this.#calm = setTimeout(() => this.#showChanges(), CALM);
  }

  #showChanges() {
    if (this.#changes.size === 0 || !this.#room.joined) return;
    if (this.#log.lastKind !== "presence" || this.#shownChanges.size > MOST_SHOWN) this.#shownChanges.clear();
    for (const [name, event] of this.#changes) this.#shownChanges.set(name, event);
    this.#changes.clear();
    const of = (event) => [...this.#shownChanges].filter(([, what]) => what === event).map(([name]) => name);
    const parts = [];
    for (const [event, words] of [["join", " joined"], ["leave", " left"]]) {
      const names = of(event);
      if (names.length > 0) parts.push(...(parts.length > 0 ? [" · "] : []), ...namesNodes(names), words);
    }
    this.#log.note("presence", ...parts);
  }

  #quiet() {
    this.#before = new Set(this.#room.members.values());
    this.#lostAt = performance.now();
    clearTimeout(this.#calm);
    this.#changes.clear();
    this.#typing.clear();
    this.#showTyping();
  }

  // Typing.

  #signalled(from, body) {
    if (typeof body?.typing !== "boolean") return;
    if (!body.typing) return this.#stopped(from.member);
    this.#typing.set(from.member, { name: from.name, until: performance.now() + TYPING });
    this.#showTyping();
  }

  #stopped(member) {
    if (this.#typing.delete(member)) this.#showTyping();
  }

  #showTyping() {
    const now = performance.now();
    for (const [member, { until }] of this.#typing) if (until <= now) this.#typing.delete(member);
    const names = [...new Set([...this.#typing.values()].map(({ name }) => name))];
    const words = names.length > 3 ? ["Several people are typing…"]
      : names.length > 0 ? [...namesNodes(names), names.length === 1 ? " is typing…" : " are typing…"] : [];
    $("typing").replaceChildren(...words);
    clearTimeout(this.#timer);
    if (names.length > 0) this.#timer = setTimeout(() => this.#showTyping(), 500);
  }
}

export function prepareDrawer() {
  const drawer = $("drawer");
  const wide = matchMedia("(min-width: 56rem)");
  $("people-button").onclick = () => {
    drawer.append($("people"));
    drawer.showModal();
  };
  drawer.querySelector("button").onclick = () => drawer.close();
  drawer.onclick = (event) => event.target === drawer && drawer.close();
  drawer.onclose = () => $("aside").append($("people"));
  wide.onchange = () => wide.matches && drawer.close();
}
