// What all of racerd.js shares: events and errors.

/** A request that the server refused, or that was lost. `code` is the protocol's, or `lost`, `unknown_fate`, `too_old`, `closed`. */
export class RacerdError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "RacerdError";
    this.code = code;
    this.field = more.field;
    this.retryAfter = more.retry_after_ms;
  }
}

/** Listeners by the name of what happens. */
export class Emitter {
  #listeners = new Map();

  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} takes the listener away
   */
  on(type, listener) {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    return () => set.delete(listener);
  }

  /** A listener's fault is reported, and stops nobody else. */
  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
