// How fast one may send: a token bucket as the server keeps one, so that it need not refuse. It knows no socket.

export class Pace {
  #rate;
  #left;
  #at = performance.now();

  /** @param {number} rate a second; 0 is no limit */
  constructor(rate) {
    this.#rate = rate;
    this.#left = rate;
  }

  /** Takes leave for one send: 0, or the milliseconds until there is one. At once a second's worth of them. */
  take() {
    if (!this.#rate) return 0;
    const now = performance.now();
    const saved = Math.min(this.#rate, this.#left + ((now - this.#at) * this.#rate) / 1000);
    this.#left = saved >= 1 ? saved - 1 : saved;
    this.#at = now;
    return saved >= 1 ? 0 : Math.ceil(((1 - saved) * 1000) / this.#rate);
  }
}
