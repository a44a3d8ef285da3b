// Restores unsent messages into their rooms. A room that this client has not joined is joined only to deliver them.

export class Deliveries {
  /** Rooms joined only to deliver, and whether their rows are restored. */
  #rooms = new Map();
  restoring = 0;
  #saved;
  #owner;

  /** `owner`: `room(id)` makes a room, `join(room)` joins it, `has(id)`, `isOpen()`, `pump()`. */
  constructor(saved, owner) {
    this.#saved = saved;
    this.#owner = owner;
  }

  has(room) {
    return this.#rooms.has(room);
  }

  get size() {
    return this.#rooms.size;
  }

  clear() {
    this.#rooms.clear();
  }

  /** Gives a room its rows from the outbox, once its code is loaded. */
  restore(room) {
    const rows = this.#saved.take(room.id);
    if (rows.length === 0) return Promise.resolve();
    this.restoring += rows.length;
    // Asynchronously, so that the caller of `join` can add its listeners first.
    const restored = () => {
      this.restoring -= rows.length;
      const isOpen = this.#owner.isOpen();
      const judged = rows.map((row) => ({ row, state: this.#saved.stateOf(row, isOpen) }));
      // Rows of a session that never began belong to the current one from now on.
      this.#saved.move(judged.filter(({ state }) => state === "queued").map(({ row }) => row));
      room._restore(judged);
      if (isOpen) this.#owner.pump();
    };
    return room._prepare().then(restored, () => {
      this.restoring -= rows.length;
      this.#saved.unsent.push(...rows);
    });
  }

  /** Joins the rooms in which something waits, and leaves those in which all is sent. Requires an open session. */
  run() {
    for (const [room, isRestored] of this.#rooms) if (isRestored && room._waiting.length === 0) this.#end(room);
    for (const row of this.#saved.unsent) {
      if (this.#saved.stateOf(row, true) === "ended") this.#saved.giveUp(row);
      if (row.failed || this.#owner.has(row.room)) continue;
      const room = this.#owner.room(row.room);
      this.#rooms.set(room, false);
      this.restore(room).then(() => this.#rooms.has(room) && this.#rooms.set(room, true));
      this.#owner.join(room);
    }
  }

  #end(room) {
    this.#rooms.delete(room);
    room._leave();
  }

  /** Hands a room over to a caller who joins it: its rows go to the new Room, under the same keys. */
  yield(room) {
    const rows = this.#saved.rowsOf(room.id, room._waiting);
    this.#end(room);
    this.#saved.unsent.push(...rows);
  }
}
