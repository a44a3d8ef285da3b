// Defines the events and errors that all of racerd.js shares.

/**
 * A refused or lost request. `code` is the protocol's (also `unauthorized`, where the server does not know who this is),
 * or `lost`, `unknown_fate`, `too_old`, `too_long`, `closed`, `moved`.
 */
export class RacerdError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "RacerdError";
    this.code = code;
    this.field = more.field;
    this.retryAfter = more.retry_after_ms;
  }
}

/** Does the server refuse only for now, so that the same request may succeed later? */
export function isForNow({ code }) {
  return code === "rate_limited" || code === "storage_unavailable";
}

export class Emitter {
  #listeners = new Map();

  /** Calls `listener(detail)` for each event of this type. Returns a function that removes it. */
  on(type, listener) {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    return () => set.delete(listener);
  }

  /** Reports a listener's exception, and still calls the others. */
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
