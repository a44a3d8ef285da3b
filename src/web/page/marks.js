// Shows what a reader should know of a message in a room with a key: what is to be distrusted, what is missing before
// it, and when its author wrote it.

import { count, element, isoTime, shortTime, wholeTime } from "./text.js";

/** A date that differs by less from the server's, in milliseconds, is not worth a word: clocks differ. */
const SAME = 5 * 60_000;

const TEXTS = {
  name: ({ inside }) => (inside.name === "" ? "Signed without a name" : ["Signed by “", element("bdi", {}, inside.name), "”"]),
  out_of_order: () => "Out of order: written before a message above",
  old_form: () => "Old form: may be a repeat",
  again: () => "Said before the reset",
};
/** Marks that say nothing against a message. */
const HARMLESS = new Set(["again"]);

/** Returns the nodes to be shown behind a message's text. With `marksPlain`, unencrypted messages are marked. */
export function marks(message, marksPlain) {
  if (message.unreadable) return [];
  const { encrypted, at, inside, missing = 0 } = message;
  const badge = (kind, content) => element("span", { class: `badge ${kind}` }, ...[content].flat());
  const nodes = (message.marks ?? []).map((mark) => badge(HARMLESS.has(mark) ? "aside" : "mark", TEXTS[mark](message)));
  if (marksPlain && !encrypted) nodes.push(badge("mark", "Not encrypted"));
  if (missing > 0) nodes.push(badge("aside", `${count(missing, "message")} before this one ${missing === 1 ? "is" : "are"} missing`));
  if (inside && Math.abs(inside.sent - at) >= SAME) {
    const written = element("time", { datetime: isoTime(inside.sent), title: wholeTime(inside.sent) }, shortTime(inside.sent, at));
    nodes.push(badge("aside", ["Written ", written, " by its author's clock"]));
  }
  return nodes;
}

/** Returns the same as texts, for a screen reader. */
export function markTexts(message) {
  return marks(message, false).map((node) => node.textContent);
}
