// Lets only one page at a time use a session. A browser that duplicates a tab copies its sessionStorage, token
// included, and two pages with one token would disconnect each other for ever.
//
// Leases are Web Locks. Pages served over plain http have none: they ask over a BroadcastChannel, and the holder
// replies. A frozen page cannot reply and loses its session to the asker; the server tells it so (close code 4001).

/** A closing page may release its lease this long after the next page has begun, in milliseconds. */
const HANDOVER = 700;
/** The same where a page was reloaded: then it is the page before that holds the lease, not the original of a copy. */
const RELOADED = 5000;
const ANSWER = 300;

/**
 * Takes a lease until the page closes; waits `patience` milliseconds for its holder.
 * @returns {Promise<(() => void)|null>} releases the lease; null if another page holds it
 */
export async function takeLease(name, patience = isReloaded() ? RELOADED : HANDOVER) {
  const whole = `racerd.${name}`;
  try {
    if (globalThis.navigator?.locks) return await lock(whole, patience);
    if (globalThis.BroadcastChannel) return await agree(whole, patience);
  } catch {
    // A setting forbids it.
  }
  return () => {};
}

/** A copy of a tab has a lease of its own by the time it is reloaded. */
function isReloaded() {
  return globalThis.performance?.getEntriesByType?.("navigation")[0]?.type === "reload";
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
    // With a patience of 0, a timer could fire before the browser answers.
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

/** Of two pages that ask at once, the smaller number wins. A page that asked slightly earlier repeats its question. */
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
