// What was said in this room by this window and is not acknowledged: below the log, each under its author.

import { fold, goesOn, row } from "./row.js";
import { element } from "./text.js";

const $ = (id) => document.getElementById(id);

export class Unsent {
  #room;
  #log;
  #author;
  #speak;
  #refused;
  /** By key: {made, message, seq}. */
  #rows = new Map();

  /** `author()` is {member, name}; `refused(error)` hears why something was not sent. */
  constructor({ room, log, author, speak, refused }) {
    this.#room = room;
    this.#log = log;
    this.#author = author;
    this.#speak = speak;
    this.#refused = refused;
    $("unsent").replaceChildren();
    room.on("unsent", (send) => this.#show(send));
  }

  get size() {
    return this.#rows.size;
  }

  send(body) {
    this.#show({ ...this.#room.send(body), body });
    this.#log.toEnd();
  }

  /** Takes away what is acknowledged and stands in the log by now. */
  sweep() {
    for (const [key, { seq }] of this.#rows) if (seq <= this.#room.cursor) this.#remove(key);
  }

  #show({ key, done, body, unreadable, name, at = Date.now() }) {
    const author = this.#author();
    const message = { at, from: { ...author, name: name ?? author.name }, own: true, body, unreadable };
    const last = [...this.#rows.values()].at(-1)?.message;
    const onFold = (_, act) => act();
    const made = row(message, { isFirst: !goesOn(message, last), onFold });
    made.classList.add("sending");
    const state = element("p", { class: "state" }, "Sending…");
    made.append(state);
    this.#rows.set(key, { made, message });
    $("unsent").append(made);
    fold(made);
    this.#log.follow();
    const stored = ({ seq }) => {
      if (this.#rows.has(key)) this.#rows.get(key).seq = seq;
      this.sweep();
    };
    done.then(stored, (error) => this.#failed(error, { key, body, unreadable, made, state }));
  }

  #failed(error, { key, body, unreadable, made, state }) {
    if (error.code === "closed") return;
    // Another window has it now.
    if (error.code === "moved") return this.#remove(key);
    this.#refused(error);
    made.classList.replace("sending", "failed");
    const again = element("button", { type: "button", class: "link" }, "Try again");
    const discard = element("button", { type: "button", class: "link" }, "Discard");
    const away = () => {
      this.#remove(key);
      this.#room.forget(key);
      $("text").focus();
    };
    again.onclick = () => {
      away();
      this.send(body);
    };
    discard.onclick = away;
    // What cannot be read cannot be said again.
    const ways = unreadable ? [discard] : [again, " ", discard];
    state.replaceChildren("Not sent: ", element("bdi", {}, error.message), ". ", ...ways);
    this.#speak("A message was not sent.");
    this.#log.follow();
  }

  /** The next one says whose it is, if this one did. */
  #remove(key) {
    const { made, message } = this.#rows.get(key) ?? {};
    if (!made) return;
    this.#rows.delete(key);
    const next = made.nextElementSibling;
    if (made.classList.contains("first") && next && !next.classList.contains("first")) {
      const header = row({ ...message, body: { text: "" } }, { isFirst: true });
      next.classList.add("first");
      next.prepend(...header.querySelectorAll(".avatar, .who"));
    }
    made.remove();
  }
}
