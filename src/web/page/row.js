// Builds the row of one message: author, time and body, folded if it is higher than the screen.

import { marks } from "./marks.js";
import { button, dayOf, element, nameNode, saidNode, timeNode, wholeTime } from "./text.js";

/** An author's messages within this many milliseconds stand under one name. */
const GROUP = 5 * 60_000;
/** Fewer lines than this, of this many characters, fit on any screen and are not measured. */
const LINES = 12;
const LINE = 24;

/** Does a message stand under the name of the one before it? Not if the server's clock was set back in between. */
export function goesOn({ from, at }, last) {
  if (last?.from === undefined || authorOf(last.from) !== authorOf(from)) return false;
  const passed = at - last.at;
  return passed >= 0 && passed < GROUP && dayOf(at) === dayOf(last.at);
}

function authorOf({ member, name }) {
  return member ?? `name ${name}`;
}

/**
 * Builds a row. With `isFirst` it shows the author; with `marksPlain`, unencrypted messages are marked. `isUnfolded`
 * restores the reader's choice, told to `onFold(row, isUnfolded, act)`.
 */
export function row(message, { isFirst, marksPlain = false, isUnfolded = false, onFold = () => {} }) {
  const { at, from, own, seq } = message;
  const classes = ["message", own && "own", isFirst && "first"].filter(Boolean).join(" ");
  const made = element("li", { class: classes, "data-seq": seq, title: isFirst ? undefined : wholeTime(at) });
  if (isFirst) made.append(avatar(from.name), who(message));
  const said = saidNode(message);
  made.append(said);
  // Beside the text, which may be folded.
  const shown = marks(message, marksPlain);
  if (shown.length > 0) made.append(element("p", { class: "marks" }, ...shown));
  if (mayBeHigh(said.textContent)) made.append(foldButton(made, said, isUnfolded, onFold));
  return made;
}

/** Removes the author from a row, because the row above it now has the same one. */
export function joinUp(made, { at }) {
  made.classList.remove("first");
  made.title = wholeTime(at);
  for (const named of [...made.children].filter(({ className }) => ["avatar", "who"].includes(className))) named.remove();
}

export function avatar(name) {
  // The first letter or emoji, without combining marks.
  const [letter = ""] = name.trim();
  return element("span", { class: "avatar", "aria-hidden": "true" }, letter.toUpperCase());
}

function who({ at, from }) {
  return element("p", { class: "who" }, nameNode(from.name), " ", timeNode(at));
}

function mayBeHigh(text) {
  let lines = text.length / LINE;
  for (let at = text.indexOf("\n"); at !== -1 && lines <= LINES; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines > LINES;
}

function foldButton(made, said, isUnfolded, onFold) {
  const more = button("", () => {
    const unfolded = said.classList.contains("folded");
    onFold(made, unfolded, () => set(unfolded));
  }, "link more");
  const set = (unfolded) => {
    said.classList.toggle("folded", !unfolded);
    more.setAttribute("aria-expanded", String(unfolded));
    more.textContent = unfolded ? "Show less" : "Show more";
  };
  set(isUnfolded);
  return more;
}

/** Shows the button of each row that is cut off, now that the rows can be measured. */
export function fold(within) {
  const folded = [...within.querySelectorAll(".more")].map((button) => [button, button.parentElement.querySelector(".body.folded")]);
  const isCut = folded.map(([, said]) => !said || said.scrollHeight > said.clientHeight + 1);
  folded.forEach(([button, said], index) => {
    button.hidden = !isCut[index];
    said?.classList.toggle("cut", isCut[index]);
  });
}
