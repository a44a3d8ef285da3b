// One message as a row: its author, its time, what it says; and folded where it is higher than a screen.

import { clock, dayOf, element, isoTime, nameNode, saidNode, wholeTime } from "./text.js";

/** Messages of one author within so many milliseconds stand under one name. */
const GROUP = 5 * 60_000;
/** Fewer lines than this, at so many characters a line, fill no screen: they need not be measured. */
const LINES = 12;
const LINE = 24;

/**
 * Does a message stand under the name of the one before it? Where the server's clock was set back (`at` may go back), it
 * begins a group of its own, with its own time: it stands for those below it.
 */
export function goesOn({ from, at }, last) {
  if (last?.from === undefined || authorOf(last.from) !== authorOf(from)) return false;
  const passed = at - last.at;
  return passed >= 0 && passed < GROUP && dayOf(at) === dayOf(last.at);
}

function authorOf({ member, name }) {
  return member ?? `name ${name}`;
}

/**
 * Makes the row of a message; `isFirst`, its author stands above it. With `marksPlain`, what came unencrypted is marked.
 * `isUnfolded` and what `onFold` hears keep the reader's choice where the row is made again.
 */
export function row(message, { isFirst, marksPlain = false, isUnfolded = false, onFold = () => {} }) {
  const { at, from, own, seq } = message;
  const classes = ["message", own && "own", isFirst && "first"].filter(Boolean).join(" ");
  const made = element("li", { class: classes, "data-seq": seq, title: isFirst ? undefined : wholeTime(at) });
  if (isFirst) made.append(avatar(from.name), who(message));
  const said = saidNode(message);
  if (marksPlain && !message.encrypted && !message.unreadable) said.append(element("span", { class: "mark" }, "Not encrypted"));
  made.append(said);
  if (mayBeHigh(said.textContent)) made.append(foldButton(made, said, isUnfolded, onFold));
  return made;
}

/** Has a row that named its author stand under the name above it. */
export function joinUp(made, { at }) {
  made.classList.remove("first");
  made.title = wholeTime(at);
  for (const named of [...made.children].filter(({ className }) => ["avatar", "who"].includes(className))) named.remove();
}

export function avatar(name) {
  // The first letter, or emoji, without the marks that may be heaped on it.
  const [letter = ""] = name.trim();
  return element("span", { class: "avatar", "aria-hidden": "true" }, letter.toUpperCase());
}

function who({ at, from }) {
  const time = element("time", { datetime: isoTime(at), title: wholeTime(at) }, clock(at));
  return element("p", { class: "who" }, nameNode(from.name), " ", time);
}

function mayBeHigh(text) {
  let lines = text.length / LINE;
  for (let at = text.indexOf("\n"); at !== -1 && lines <= LINES; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines > LINES;
}

function foldButton(made, said, isUnfolded, onFold) {
  const button = element("button", { type: "button", class: "link more" });
  const set = (unfolded) => {
    said.classList.toggle("folded", !unfolded);
    button.setAttribute("aria-expanded", String(unfolded));
    button.textContent = unfolded ? "Show less" : "Show more";
  };
  set(isUnfolded);
  button.onclick = () => {
    const unfolded = said.classList.contains("folded");
    onFold(made, unfolded, () => set(unfolded));
  };
  return button;
}

/** Shows the buttons of those that are cut, now that they can be measured; where nothing is cut, there is none. */
export function fold(within) {
  const folded = [...within.querySelectorAll(".more")].map((button) => [button, button.parentElement.querySelector(".body.folded")]);
  const isCut = folded.map(([, said]) => !said || said.scrollHeight > said.clientHeight + 1);
  folded.forEach(([button, said], index) => {
    button.hidden = !isCut[index];
    said?.classList.toggle("cut", isCut[index]);
  });
}
