// What is typed in a room and not sent: kept until it is sent or cleared, over reloads, other rooms, and the tab's end. In a
// room with a key it is kept sealed under that key, as what is said there is.

import { memory } from "./memory.js";

/** It is stored when nothing was typed for this long, in milliseconds, and when the page may go. */
const CALM = 300;

export class Draft {
  #room;
  #roomKey;
  #cipher = null;
  #timer = null;
  /** What is not stored yet. */
  #pending;
  /** The draft of another tab that this one began with. */
  #adopted = null;

  constructor(room, roomKey) {
    this.#room = room;
    this.#roomKey = roomKey;
  }

  /** Reads what this tab left here, else what another one did. @returns {Promise<string>} */
  async load() {
    const all = memory.drafts(this.#room);
    // A page without drafts loads nothing to open them.
    if (this.#roomKey) {
      const { RoomCipher } = await import("../racerd/room_key.js");
      this.#cipher = new RoomCipher(this.#roomKey, this.#room);
      if (this.#pending !== undefined) this.save();
    }
    const own = all.findLast(({ tab }) => tab === memory.tab);
    const text = this.#open(own);
    if (text !== "") return text;
    this.#adopted = all.findLast((draft) => draft !== own && this.#open(draft) !== "") ?? null;
    return this.#open(this.#adopted);
  }

  /** What stands in the field now. */
  set(text) {
    this.#pending = text;
    clearTimeout(this.#timer);
    // Sent or cleared, it is not to come back.
    if (text === "") this.save();
    else this.#timer = setTimeout(() => this.save(), CALM);
  }

  save() {
    clearTimeout(this.#timer);
    if (this.#pending === undefined) return;
    // In the clear, a sealed room's words are not stored.
    if (this.#roomKey && !this.#cipher && this.#pending !== "") return;
    const { tab } = memory;
    const isAdopted = (draft) => this.#adopted !== null && JSON.stringify(draft) === JSON.stringify(this.#adopted);
    const others = memory.drafts(this.#room).filter((draft) => draft.tab !== tab && !isAdopted(draft));
    const own = this.#pending === "" ? [] : [{ tab, ...this.#write(this.#pending) }];
    this.#pending = undefined;
    this.#adopted = null;
    memory.setDrafts(this.#room, [...others, ...own]);
  }

  #write(text) {
    return this.#cipher ? { sealed: this.#cipher.seal({ text }, "draft") } : { text };
  }

  #open(draft) {
    try {
      const text = this.#cipher ? this.#cipher.open(draft.sealed).text : draft.text;
      return typeof text === "string" ? text : "";
    } catch {
      // None, or of another key.
      return "";
    }
  }
}
