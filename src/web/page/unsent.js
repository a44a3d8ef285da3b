// Shows this window's unacknowledged messages in this room, below the log.

import { fold, goesOn, row } from "./row.js";
import { $, button, element } from "./text.js";

export class Unsent {
  #room;
  #log;
  #owner;
  /** By key: {made, message, seq}. */
  #rows = new Map();

  /** `author()` returns {member, name}; `refused(error)` is called when a message was not sent. */
  constructor({ room, log, ...owner }) {
    this.#room = room;
    this.#log = log;
    this.#owner = owner;
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

  /** Removes the messages that are in the log by now. */
  sweep() {
    for (const [key, { seq }] of this.#rows) if (seq <= this.#room.cursor) this.#remove(key);
  }

  #show({ key, done, body, unreadable, name, at = Date.now() }) {
    const author = this.#owner.author();
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
    // Another window has taken it over.
    if (error.code === "moved") return this.#remove(key);
    this.#owner.refused(error);
    made.classList.replace("sending", "failed");
    const away = () => {
      this.#remove(key);
      this.#room.forget(key);
      $("text").focus();
    };
    const again = button("Try again", () => {
      away();
      this.send(body);
    });
    const discard = button("Discard", away);
    // An unreadable message cannot be sent again.
    const ways = element("span", { class: "ways" }, ...(unreadable ? [] : [again, " "]), discard);
    state.replaceChildren("Not sent: ", element("bdi", {}, error.message), ". ", ways);
    this.#owner.speak("A message was not sent.");
    this.#log.follow();
  }

  /** Removes a row; the next one shows the author, if this one did. */
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
