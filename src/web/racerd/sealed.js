// A socket whose frames only the server with the pinned key can read: racerd.v1.sealed, Noise in binary frames. To
// racerd.js it looks like a WebSocket for text. Objects sent in one turn are sealed together, each ended by LF.
// Whatever comes unsealed proves nothing, close codes included: the socket is then lost, and no more.

import { concat, fromBase64url, text, utf8 } from "./bytes.js";
import { Handshake, MESSAGE_MAX, TAG } from "./noise.js";

const PROTOCOL = "racerd.v1.sealed";
/** Stands for POLICY: of the codes below 3000 a page may send only 1000. */
const REFUSED = 4008;
const POLICY = 1008;
const ABNORMAL = 1006;
const NORMAL = 1000;
const LF = 10;
/**
 * The longest accepted line in bytes, before the server has announced its limits; afterwards, too, if those are lower:
 * the log may hold messages from a time of higher limits.
 */
const LINE_KEPT = 1 << 20;
/** The most bytes of one sent object, with its LF. */
const LINE_MAX = MESSAGE_MAX - TAG;

const NO_KEY = "The server's key in this link is none. Ask for the link again.";
const NOT_PINNED = "This server does not have the pinned key (wrong server, or somebody in the middle). Nothing was sent to it. If the"
  + " server's key was changed, ask for the new link.";

export class SealedSocket {
  /** The most bytes of one object. */
  static longest = LINE_MAX - 1;

  /** As in a WebSocket: 0 until the server has proved that it has the key. */
  readyState = 0;
  onmessage = null;
  /**
   * Gets a `code`, which is the server's if it said so sealed and 1006 otherwise; the reason as `final` if reconnecting
   * is pointless, or as `warning` if the answer was not the pinned server's.
   */
  onclose = null;
  onerror = null;

  #socket;
  #handshake;
  #hasAsked = false;
  #sending = null;
  #receiving = null;
  #lines = [];
  /** The unfinished last line: a line that is longer than one message continues in the next. */
  #tail = [];
  #tailLength = 0;
  #longestLine = LINE_KEPT;

  /**
   * @param {string} url of the socket, without a query
   * @param {string} pin the server's static public key
   * @param {typeof WebSocket} WebSocket
   */
  constructor(url, pin, WebSocket) {
    this.#handshake = new Handshake(fromBase64url(pin), utf8(PROTOCOL));
    const socket = new WebSocket(url, PROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#ask();
    socket.onmessage = ({ data }) => this.#hear(data);
    // A server with another key cannot read the handshake and closes with this code.
    socket.onclose = ({ code }) => this.#end(ABNORMAL, this.#isAsking && code === POLICY ? { warning: NOT_PINNED } : {});
    socket.onerror = () => {};
    this.#socket = socket;
  }

  /** Accepts lines of this many bytes, and of LINE_KEPT at least. */
  allow(longest) {
    this.#longestLine = Math.max(longest, LINE_KEPT);
  }

  /** @param {string} line a JSON object */
  send(line) {
    if (this.readyState !== 1) return;
    if (this.#lines.length === 0) queueMicrotask(() => this.#flush());
    this.#lines.push(utf8(`${line}\n`));
  }

  /** Closes; without a code, or with 1000, the session ends. */
  close(code = NORMAL) {
    if (code === NORMAL) this.send('{"type":"end"}');
    this.#flush();
    if (this.readyState < 2) this.readyState = 2;
    this.#socket.close(code);
  }

  /** Notes that the server has announced, sealed, that it closes with this code. */
  closing(code) {
    this.#socket.close();
    this.#end(code);
  }

  get #isAsking() {
    return this.#hasAsked && this.#receiving === null;
  }

  #ask() {
    let asked;
    try {
      asked = this.#handshake.write();
    } catch {
      // The key is no point of the curve, or one of small order: nobody has its secret.
      return this.#refuse({ final: NO_KEY });
    }
    this.#hasAsked = true;
    this.#socket.send(asked);
  }

  #hear(data) {
    if (this.readyState > 1) return;
    if (this.#isAsking) {
      try {
        const { sending, receiving } = this.#handshake.read(frame(data));
        this.#sending = sending;
        this.#receiving = receiving;
      } catch {
        return this.#refuse({ warning: NOT_PINNED });
      }
      this.readyState = 1;
      return;
    }
    let lines;
    try {
      lines = this.#linesOf(this.#receiving.decrypt(frame(data)));
    } catch {
      return this.#refuse();
    }
    for (const line of lines) if (this.readyState === 1) this.onmessage?.({ data: line });
  }

  /** Returns the complete lines. Throws if the message is empty, or a line is too long or not UTF-8. */
  #linesOf(plain) {
    if (plain.length === 0) throw new SyntaxError("the message is empty");
    const end = plain.lastIndexOf(LF) + 1;
    this.#keepTail(plain.subarray(0, end || plain.length));
    if (end === 0) return [];
    const whole = concat(this.#tail);
    this.#tail = [];
    this.#tailLength = 0;
    if (end < plain.length) this.#keepTail(plain.subarray(end));
    return text(whole.subarray(0, -1)).split("\n");
  }

  #keepTail(part) {
    this.#tailLength += part.length;
    if (this.#tailLength > this.#longestLine + MESSAGE_MAX) throw new RangeError("a line is longer than the announced limit");
    this.#tail.push(part);
  }

  /** Seals the waiting lines, as many in one message as fit. */
  #flush() {
    const lines = this.#lines.splice(0);
    while (lines.length > 0 && this.readyState === 1) {
      let length = 0;
      let count = 0;
      while (count < lines.length && (count === 0 || length + lines[count].length <= LINE_MAX)) length += lines[count++].length;
      this.#socket.send(this.#sending.encrypt(concat(lines.splice(0, count))));
    }
  }

  /** Closes: the frame is not from this server, or was altered. */
  #refuse(why) {
    this.#socket.close(REFUSED);
    this.#end(ABNORMAL, why);
  }

  #end(code, { final, warning } = {}) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, final, warning });
  }
}

/** Returns a frame's bytes; throws if it is a text frame, or longer than a Noise message. */
function frame(data) {
  if (!(data instanceof ArrayBuffer) || data.byteLength > MESSAGE_MAX) throw new TypeError("not a sealed frame");
  return new Uint8Array(data);
}
