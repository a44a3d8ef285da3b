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
 * @param {number} [patience] milliseconds to wait for whoever holds it
 * @returns {Promise<(() => void)|null>} what gives it back; null if another page holds it
 */
export async function takeLease(name, patience = HANDOVER) {
  const whole = `racerd.${name}`;
  try {
    if (globalThis.navigator?.locks) return await lock(whole, patience);
    if (globalThis.BroadcastChannel) return await agree(whole, patience);
  } catch {
    // Refused by a setting: then nobody can be asked.
  }
  return () => {};
}

function lock(name, patience) {
  return new Promise((resolve, reject) => {
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(), patience);
    const held = (lock) => {
      clearTimeout(timer);
      if (lock === null) return resolve(null);
      return new Promise((release) => resolve(release));
    };
    // The browser may take longer to answer than nobody is to be waited for.
    const options = patience > 0 ? { signal: end.signal } : { ifAvailable: true };
    navigator.locks.request(name, options, held)
      .catch((error) => (error.name === "AbortError" ? resolve(null) : reject(error)));
  });
}

async function agree(name, patience) {
  const end = performance.now() + patience;
  for (;;) {
    const release = await askOnce(name);
    if (release || performance.now() >= end) return release;
  }
}

/** Of two that ask in one moment the smaller number gets it; one that asked a moment before it was there asks it again. */
function askOnce(name) {
  return new Promise((resolve) => {
    const channel = new BroadcastChannel(name);
    const mine = Math.random();
    let holds = false;
    channel.onmessage = ({ data }) => {
      if (data.asks !== undefined && (holds || mine < data.asks)) channel.postMessage({ held: data.asks });
      else if (data.asks !== undefined) channel.postMessage({ asks: mine });
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
