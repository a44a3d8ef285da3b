// Lists unsent messages of other rooms and of closed windows, on both views.

import { address } from "./address.js";
import { avatar } from "./row.js";
import { $, button, count, element, nameNode, onPlainClick, saidNode, timeNode } from "./text.js";

/** Messages that have waited less than this, in milliseconds, are not listed: another window may be sending them. */
const CALM = 2000;

export class Elsewhere {
  #desk;
  #go;
  #isShown = () => false;
  /** The time when each row was first seen, by key. */
  #since = new Map();
  #timer = null;

  /** `desk` is racerd.js's `unsent()`; `go(place)` goes to a room. */
  constructor({ desk, go }) {
    this.#desk = desk;
    this.#go = go;
    desk.on("change", () => this.render());
  }

  /** Moves to where `place` puts it. Rows that the view itself shows are left out. */
  show({ isShown, place }) {
    this.#isShown = isShown;
    place($("elsewhere"));
    this.render();
  }

  check() {
    this.#desk.check();
  }

  render() {
    clearTimeout(this.#timer);
    const now = performance.now();
    // With the view's own rows, so that they are listed as soon as it is left.
    this.#since = new Map(this.#desk.rows.map(({ key }) => [key, this.#since.get(key) ?? now]));
    const all = this.#desk.rows.filter((row) => !this.#isShown(row));
    const rows = all.filter(({ key, state }) => state === "failed" || now - this.#since.get(key) >= CALM);
    if (rows.length < all.length) this.#timer = setTimeout(() => this.render(), CALM);
    const failed = rows.filter(({ state }) => state === "failed").length;
    const waiting = rows.length - failed;
    const parts = [
      failed > 0 && `${count(failed, "message")} not sent`,
      waiting > 0 && `${count(waiting, "message")} waiting`,
    ].filter(Boolean);
    $("elsewhere").hidden = rows.length === 0;
    $("elsewhere").classList.toggle("failed", failed > 0);
    $("elsewhere").querySelector("summary").textContent = `Elsewhere: ${parts.join(", ")}`;
    $("elsewhere").querySelector("ul").replaceChildren(...rows.map((row) => this.#row(row)));
  }

  #row({ key, room, name, at, body, encrypted, pin, state, reason }) {
    const link = element("a", { href: address({ room, pin }) }, element("bdi", {}, room));
    onPlainClick(link, () => this.#go({ room, pin }));
    const where = element("p", { class: "who" }, nameNode(name ?? ""), " in ", link, " ", timeNode(at));
    const said = encrypted ? element("div", { class: "body unreadable" }, "An encrypted message") : saidNode({ body });
    said.classList.add("brief");
    const discard = button("Discard", () => this.#desk.discard(key));
    const again = button("Send again", () => this.#desk.again(key));
    const why = reason === undefined ? [] : [element("bdi", {}, reason), ". "];
    const ways = element("span", { class: "ways" }, ...(state === "failed" ? [again, " "] : []), discard);
    const words = [state === "failed" ? "Not sent: " : "Waiting for a connection. ", ...why, ways];
    return element("li", { class: `message first ${state}` }, avatar(name ?? ""), where, said, element("p", { class: "state" }, ...words));
  }
}
