// Who may use a session: one page at a time. A browser that duplicates a tab copies its sessionStorage, token and all, and
// two pages with one token would throw each other out for ever. So a page takes a lease before it uses what it finds.
//
// With Web Locks where there are any. Pages of plain http have none: they ask over a BroadcastChannel, and who holds
// the lease says so. A page that is frozen then cannot answer, and loses its session to the asker; it is told (4001).

/** A page that goes gives up its lease a moment after the next one has begun, in milliseconds. */
const HANDOVER = 700;
/** Whoever holds a lease answers within this. */
const ANSWER = 300;

/**
 * Takes the lease of this name, for as long as the page lives or until it is given back.
 * @param {string} name
 * @returns {Promise<(() => void)|null>} what gives it back; null if another page holds it
 */
export async function takeLease(name) {
  const whole = `racerd.${name}`;
  try {
    if (globalThis.navigator?.locks) return await lock(whole);
    if (globalThis.BroadcastChannel) return await agree(whole);
  } catch {
    // Refused by a setting: then nobody can be asked.
  }
  return () => {};
}

function lock(name) {
  return new Promise((resolve, reject) => {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), HANDOVER);
    const held = () => new Promise((release) => {
      clearTimeout(timer);
      resolve(release);
    });
    navigator.locks.request(name, { signal: patience.signal }, held)
      .catch((error) => (error.name === "AbortError" ? resolve(null) : reject(error)));
  });
}

async function agree(name) {
  const end = Date.now() + HANDOVER;
  for (;;) {
    const release = await askOnce(name);
    if (release || Date.now() >= end) return release;
  }
}

/** Of two that ask in one moment the smaller number gets it. */
function askOnce(name) {
  return new Promise((resolve) => {
    const channel = new BroadcastChannel(name);
    const mine = Math.random();
    let holds = false;
    channel.onmessage = ({ data }) => {
      if (data.asks !== undefined && (holds || mine < data.asks)) channel.postMessage({ held: data.asks });
      else if (data.held === mine && !holds) {
        clearTimeout(timer);
        channel.close();
        resolve(null);
      }
    };
    const timer = setTimeout(() => {
      holds = true;
      resolve(() => channel.close());
    }, ANSWER);
    channel.postMessage({ asks: mine });
  });
}
