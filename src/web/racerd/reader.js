// Reads the messages and signals of a room with a key: opens what is sealed (room_key.js), and says what is to be
// marked (heard.js).

import { isSealed } from "./encrypted.js";
import { Heard } from "./heard.js";
import { RoomCipher } from "./room_key.js";

export class RoomReader {
  #cipher;
  #heard = new Heard();

  constructor(key, room) {
    this.#cipher = new RoomCipher(key, room);
  }

  get cipher() {
    return this.#cipher;
  }

  /**
   * Reads a message as the server gave it.
   * @returns {{fields: object, changes: object[]}} `fields` are those of room.js: `body`, `encrypted`, `unreadable`,
   *   `marks`, `missing`, `inside`; `changes` are the same for messages read before, each with its `seq`
   */
  message({ seq, from, body }) {
    if (!isSealed(body)) return { fields: { body, encrypted: false }, changes: [] };
    const opened = this.#open(body, "message");
    if (opened.unreadable) return { fields: opened, changes: [] };
    const { body: said, fingerprint, ...inside } = opened;
    const isFirst = body.e2e === 1;
    const marks = !isFirst && inside.name !== from.name ? ["name"] : [];
    const judged = isFirst ? this.#heard.first({ seq, k: body.k }) : this.#heard.message({ seq, ...inside, fingerprint, marks });
    const changes = judged.changed.map(({ seq, marks, missing }) => ({ seq, marks: [...marks], missing }));
    changes.push(...judged.repeats.map((seq) => ({ seq, body: null, unreadable: "repeat" })));
    if (judged.isRepeat) return { fields: unreadable("repeat"), changes };
    const fields = { body: said, encrypted: true, marks: [...judged.row.marks], missing: judged.row.missing };
    return { fields: isFirst ? fields : { ...fields, inside }, changes };
  }

  /** Reads a page of history, and writes the fields into its messages. Returns the changes to other messages. */
  page(messages) {
    const changes = [];
    // The newest first: so each is judged beside the one that follows it.
    for (const message of [...messages].reverse()) {
      const read = this.message(message);
      Object.assign(message, read.fields);
      changes.push(...read.changes);
    }
    const inPage = new Map(messages.map((message) => [message.seq, message]));
    return changes.filter(({ seq, ...fields }) => !inPage.has(seq) || void Object.assign(inPage.get(seq), fields));
  }

  /** Returns what a signal says, as {said}; null if it is to be ignored: not sealed under the key, or marked. */
  signal({ from, body }) {
    if (!isSealed(body)) return null;
    const opened = this.#open(body, "signal");
    if (opened.unreadable) return null;
    const isNew = body.e2e === 1 ? this.#heard.firstSignal(body) : opened.name === from.name && this.#heard.signal(opened);
    return isNew ? { said: opened.body } : null;
  }

  /** The room has a new log. */
  restart() {
    this.#heard.restart();
  }

  #open(body, kind) {
    try {
      return this.#cipher.open(body, kind);
    } catch (error) {
      return unreadable(error.code);
    }
  }
}

function unreadable(code) {
  return { body: null, encrypted: true, unreadable: code };
}
