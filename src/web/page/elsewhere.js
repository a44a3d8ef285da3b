// What waits to be sent, or was not sent, in other rooms than the one that is shown, and from windows that were closed. The
// connection sends what it can; of what it cannot, the user decides. On both views, near what one looks at.

import { address } from "./address.js";
import { avatar } from "./row.js";
import { clock, count, element, isoTime, nameNode, saidNode, wholeTime } from "./text.js";

/** What waits no longer than this, in milliseconds, is just being sent: by another window, say. */
const CALM = 2000;

const $ = (id) => document.getElementById(id);

export class Elsewhere {
  #desk;
  #go;
  /** Is this row shown by the view itself? */
  #isShown = () => false;
  /** Since when each row is known, by key. */
  #since = new Map();
  #timer = null;

  /** `desk` is what racerd.js knows of it (`unsent`); `go(place)` goes to a room. */
  constructor({ desk, go }) {
    this.#desk = desk;
    this.#go = go;
    desk.on("change", () => this.render());
  }

  /** Goes where `place` puts it. Rows that the view shows by itself are left out. */
  show({ isShown, place }) {
    this.#isShown = isShown;
    place($("elsewhere"));
    this.render();
  }

  /** The page is shown again, or the network is back. */
  check() {
    this.#desk.check();
  }

  render() {
    clearTimeout(this.#timer);
    const now = performance.now();
    // Of those that the view shows, too: once it is left, they are no news.
    this.#since = new Map(this.#desk.rows.map(({ key }) => [key, this.#since.get(key) ?? now]));
    const all = this.#desk.rows.filter((row) => !this.#isShown(row));
    const rows = all.filter(({ key, state }) => state === "failed" || now - this.#since.get(key) >= CALM);
    if (rows.length < all.length) this.#timer = setTimeout(() => this.render(), CALM);
    const failed = rows.filter(({ state }) => state === "failed").length;
    const waiting = rows.length - failed;
    const parts = [
      failed > 0 && count(failed, "message was not sent", "messages were not sent"),
      waiting > 0 && count(waiting, "message waits", "messages wait"),
    ].filter(Boolean);
    $("elsewhere").hidden = rows.length === 0;
    $("elsewhere").classList.toggle("failed", failed > 0);
    $("elsewhere").querySelector("summary").textContent = `Elsewhere: ${parts.join(", ")}`;
    $("elsewhere").querySelector("ul").replaceChildren(...rows.map((row) => this.#row(row)));
  }

  #row({ key, room, name, at, body, encrypted, pin, state, reason }) {
    const link = element("a", { href: address({ room, pin }) }, element("bdi", {}, room));
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#go({ room, pin });
    };
    const time = element("time", { datetime: isoTime(at), title: wholeTime(at) }, clock(at));
    const where = element("p", { class: "who" }, nameNode(name ?? ""), " in ", link, " ", time);
    const said = encrypted ? element("div", { class: "body unreadable" }, "An encrypted message") : saidNode({ body });
    said.classList.add("brief");
    const discard = element("button", { type: "button", class: "link" }, "Discard");
    discard.onclick = () => this.#desk.discard(key);
    const again = element("button", { type: "button", class: "link" }, "Send again");
    again.onclick = () => this.#desk.again(key);
    const why = reason === undefined ? [] : [element("bdi", {}, reason), ". "];
    const words = state === "failed" ? ["Not sent: ", ...why, again, " ", discard] : ["Waits for a connection. ", ...why, discard];
    return element("li", { class: `message first ${state}` }, avatar(name ?? ""), where, said, element("p", { class: "state" }, ...words));
  }
}
