// Turns other people's text into nodes, and times and numbers into words. Text is never markup: it goes into text nodes
// only.

import { DIRECTION_MARKS } from "./names.js";

/** A web address, up to the first character that cannot belong to one. */
const ADDRESS = new RegExp(`https?://[^\\s<>"${DIRECTION_MARKS}]+`, "giu");
/** Punctuation that ends a sentence. */
const TRAILING = new Set(".,;:!?'”’»…");
const OPENED_BY = { ")": "(", "]": "[", "}": "{" };

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function button(text, act, className = "link") {
  const made = element("button", { type: "button", class: className }, text);
  made.onclick = act;
  return made;
}

/** Lets a plain click on a link call `act`; the browser handles one that opens a new tab or window. */
export function onPlainClick(link, act) {
  link.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    act();
  };
  return link;
}

/** Isolated, so that its reading direction affects nothing around it. */
export function nameNode(name) {
  return element("bdi", { class: "name" }, name);
}

function bodyNode(body) {
  const isText = typeof body === "object" && body !== null && typeof body.text === "string";
  if (!isText) return element("div", { class: "body", dir: "auto" }, element("code", {}, JSON.stringify(body)));
  return element("div", { class: "body", dir: "auto" }, ...withLinks(body.text));
}

const UNREADABLE = {
  no_key: "Encrypted: the link you opened has no key",
  other_key: "Encrypted with another key",
  wrong_key: "Can't be read with this key",
  altered: "Altered on its way: it can't be read",
  malformed: "Not a message: it can't be read",
  forged: "Forged: its signature is not its author's",
  repeat: "Repeat of an earlier message",
  damaged: "Damaged on the server's disk",
};

export function saidNode({ body, unreadable }) {
  return unreadable ? element("div", { class: "body unreadable" }, UNREADABLE[unreadable]) : bodyNode(body);
}

/** Returns a message as plain text, for a screen reader: its beginning only. */
export function plain({ body, unreadable }, most = 300) {
  if (unreadable) return UNREADABLE[unreadable];
  const text = typeof body?.text === "string" ? body.text : JSON.stringify(body);
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

function withLinks(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimmed(match[0]);
    const link = linkNode(address);
    if (!link) continue;
    nodes.push(text.slice(end, match.index), link);
    end = match.index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

/** Cuts trailing punctuation off; a closing bracket stays if the address opens it. Linear in the length. */
function trimmed(address) {
  const counts = { "(": 0, ")": 0, "[": 0, "]": 0, "{": 0, "}": 0 };
  for (const char of address) if (char in counts) counts[char] += 1;
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    const opening = OPENED_BY[last];
    if (opening && counts[opening] < counts[last]) counts[last] -= 1;
    else if (!TRAILING.has(last)) break;
  }
  return address.slice(0, end);
}

function linkNode(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  return element("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" }, address);
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const DAY_OF_YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** The range of a Date (ECMA-262 §21.4.1.1): a server whose clock is wrong may send more. */
const LATEST = 8.64e15;
const dateOf = (at) => new Date(Math.max(-LATEST, Math.min(LATEST, at)));

export function wholeTime(at) {
  return WHOLE.format(dateOf(at));
}

/** Shows the time of day, with the date as its tooltip. */
export function timeNode(at) {
  return element("time", { datetime: isoTime(at), title: wholeTime(at) }, CLOCK.format(dateOf(at)));
}

/** Returns the time of day, and the date if it is not that of `beside`. */
export function shortTime(at, beside) {
  const day = dayOf(at) === dayOf(beside) ? "" : `${DAY_OF_YEAR.format(dateOf(at))}, `;
  return day + CLOCK.format(dateOf(at));
}

export function isoTime(at) {
  return dateOf(at).toISOString();
}

/** Numbers the days of the reader's calendar; consecutive days differ by one, whatever the clocks do. */
export function dayOf(at) {
  const date = dateOf(at);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
}

export function dayText(at, now = Date.now()) {
  const ago = dayOf(now) - dayOf(at);
  if (ago === 0 || ago === 1) {
    return capitalised(RELATIVE.format(-ago, "day"));
  }
  return (ago > 0 && ago < 300 ? DAY : DAY_OF_YEAR).format(dateOf(at));
}

export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Returns “3 messages” or “1 message”. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Returns the nodes of “ann”, “ann and bob” or “ann, bob and 3 others”. */
export function namesNodes(names, most = 3) {
  const shown = names.length > most + 1 ? names.slice(0, most) : names;
  const parts = shown.map(nameNode);
  if (shown.length < names.length) parts.push(`${names.length - shown.length} others`);
  return parts.flatMap((part, index) => {
    if (index === 0) return [part];
    return [index === parts.length - 1 ? " and " : ", ", part];
  });
}
