// Text of others as nodes, and words for times and numbers. Text is never markup: it goes into text nodes only.

/** A web address, up to what cannot be part of one; marks that turn the reading direction are no part, either. */
const ADDRESS = /https?:\/\/[^\s<>"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+/giu;
/** Marks of the sentence around it. */
const TRAILING = new Set(".,;:!?'”’»…");
const OPENED_BY = { ")": "(", "]": "[", "}": "{" };

/** Makes an element. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A name as it is shown: it turns nothing around it. */
export function nameNode(name) {
  return element("bdi", { class: "name" }, name);
}

/** A body, as nodes: the text with its links, or the JSON of what is no text. */
function bodyNode(body) {
  const isText = typeof body === "object" && body !== null && typeof body.text === "string";
  if (!isText) return element("div", { class: "body", dir: "auto" }, element("code", {}, JSON.stringify(body)));
  return element("div", { class: "body", dir: "auto" }, ...withLinks(body.text));
}

/** Words for what cannot be read. */
const UNREADABLE = {
  no_key: "Encrypted, and the link that was opened here has no key",
  wrong_key: "Can't be read with this key",
  repeat: "Said before: somebody repeats it",
  damaged: "Damaged on the server's disk",
};

/** What a message says, as nodes: its body, or why there is none. */
export function saidNode({ body, unreadable }) {
  return unreadable ? element("div", { class: "body unreadable" }, UNREADABLE[unreadable]) : bodyNode(body);
}

/** What was said as text alone, for a reader's ear: no more of it than one listens to. */
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

/** Without the sentence's marks; a bracket stays if it was opened within. Each character is looked at twice at most. */
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

/** What a Date can hold (ECMA-262 §21.4.1.1): a server whose clock is wrong may say more. */
const LATEST = 8.64e15;
const dateOf = (at) => new Date(Math.max(-LATEST, Math.min(LATEST, at)));

export function clock(at) {
  return CLOCK.format(dateOf(at));
}

export function wholeTime(at) {
  return WHOLE.format(dateOf(at));
}

export function isoTime(at) {
  return dateOf(at).toISOString();
}

/** A number that is one more from day to day, by the reader's clock, and whatever that clock does between. */
export function dayOf(at) {
  const date = dateOf(at);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
}

export function dayText(at, now = Date.now()) {
  const ago = dayOf(now) - dayOf(at);
  if (ago === 0 || ago === 1) {
    const text = RELATIVE.format(-ago, "day");
    return text.charAt(0).toUpperCase() + text.slice(1);
  }
  return (ago > 0 && ago < 300 ? DAY : DAY_OF_YEAR).format(dateOf(at));
}

/** “3 messages”, “1 message”. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** “ann”, “ann and bob”, “ann, bob and 3 others”: as nodes, each name by itself. */
export function namesNodes(names, most = 3) {
  const shown = names.length > most + 1 ? names.slice(0, most) : names;
  const parts = shown.map(nameNode);
  if (shown.length < names.length) parts.push(`${names.length - shown.length} others`);
  return parts.flatMap((part, index) => {
    if (index === 0) return [part];
    return [index === parts.length - 1 ? " and " : ", ", part];
  });
}
