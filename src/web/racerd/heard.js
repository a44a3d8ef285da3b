// Decides what is marked in a room with a key: bodies that repeat, come out of order, or in the old form. It sees
// numbers and ids, neither keys nor sockets.
//
// The author's counter and the log's seqs have to rise together, in whatever order the log is read. Of two that
// contradict each other the later one in the log is marked. What was heard first is forgotten first.

/** Messages that are remembered, of either version: of each its stream, counter and place. */
const KNOWN = 100_000;
/** Streams of signals that are remembered, of each its last counter. */
const SIGNALS = 10_000;

/**
 * A message as it is judged: {seq, counter, marks, missing}. `marks` are "name" (another than the server's), "again"
 * (known from the former log), "out_of_order" and "old_form"; `missing` is how many messages of the author, counted
 * before this one, are not above it.
 */
export class Heard {
  #limit;
  /** Which log it is, counted from 0. */
  #log = 0;
  /** The messages by stream and counter: {log, stream, fingerprint, row}. */
  #known = new Map();
  /** The messages of the present log by stream, those that are in order: ascending by seq and by counter. */
  #streams = new Map();
  /** The messages of version 1 by `k`: {log, row}; and those of the present log that are not marked, ascending. */
  #first = new Map();
  #unmarked = [];
  /** The lowest seq of version 2. */
  #lowest = Infinity;
  /** The last counters of signals by stream, and the keys of those of version 1. */
  #signals = new Map();
  #firstSignals = new Set();

  /** `limit` is for tests. */
  constructor(limit = KNOWN) {
    this.#limit = limit;
  }

  /**
   * Judges a message of version 2.
   * @returns {{row: object}|{isRepeat: true}} `row` is as above; `changed` are rows judged before whose marks are
   *   others now, and `repeats` the seqs of those that turned out to repeat this one
   */
  message({ seq, stream, counter, fingerprint, marks = [] }) {
    const id = `${stream} ${counter}`;
    const known = this.#known.get(id);
    const isNow = known?.log === this.#log;
    const changed = new Set(this.#newForm(seq));
    if (known && isNow && known.row.seq === seq && known.fingerprint === fingerprint) return { row: known.row, changed: [], repeats: [] };
    if (known && (isNow ? known.row.seq <= seq : known.fingerprint !== fingerprint)) return { isRepeat: true, changed: [...changed], repeats: [] };
    const row = { seq, counter, marks: [...marks], missing: 0 };
    if (known && !isNow) row.marks.push("again");
    if (isNow) this.#takeOut(known, changed);
    this.#known.set(id, { log: this.#log, stream, fingerprint, row });
    this.#putIn(stream, row, changed);
    this.#forget(this.#known, ({ log, ...entry }) => log === this.#log && this.#takeOut(entry, new Set()));
    changed.delete(row);
    return { row, changed: [...changed], repeats: isNow ? [known.row.seq] : [] };
  }

  /** Judges a message of version 1. */
  first({ seq, k }) {
    const known = this.#first.get(k);
    const isNow = known?.log === this.#log;
    if (isNow && known.row.seq === seq) return { row: known.row, changed: [], repeats: [] };
    if (isNow && known.row.seq < seq) return { isRepeat: true, changed: [], repeats: [] };
    const row = { seq, marks: known && !isNow ? ["again"] : [], missing: 0 };
    if (isNow) remove(this.#unmarked, known.row);
    if (seq > this.#lowest) row.marks.push("old_form");
    else this.#unmarked.splice(place(this.#unmarked, seq), 0, row);
    this.#first.set(k, { log: this.#log, row });
    this.#forget(this.#first, ({ row }) => remove(this.#unmarked, row));
    return { row, changed: [], repeats: isNow ? [known.row.seq] : [] };
  }

  /** Is this signal new? Signals have no place in the log: each has to count further than the last one heard. */
  signal({ stream, counter }) {
    if (counter <= (this.#signals.get(stream) ?? 0)) return false;
    this.#signals.delete(stream);
    this.#signals.set(stream, counter);
    if (this.#signals.size > SIGNALS) this.#signals.delete(this.#signals.keys().next().value);
    return true;
  }

  /** Is this signal of version 1 to be believed? Not after version 2, nor if its body was heard before. */
  firstSignal({ k }) {
    if (this.#lowest < Infinity || this.#first.has(k) || this.#firstSignals.has(k)) return false;
    this.#firstSignals.add(k);
    if (this.#firstSignals.size > SIGNALS) this.#firstSignals.delete(this.#firstSignals.keys().next().value);
    return true;
  }

  /** A new log begins its seqs anew. What is known stays known: one restored from a backup repeats it. */
  restart() {
    this.#log += 1;
    this.#streams.clear();
    this.#unmarked = [];
    if (this.#lowest < Infinity) this.#lowest = 0;
  }

  /** Notes that version 2 is used at this seq; returns the messages of version 1 above it that were not marked. */
  #newForm(seq) {
    if (seq >= this.#lowest) return [];
    this.#lowest = seq;
    const rows = this.#unmarked.splice(place(this.#unmarked, seq));
    for (const row of rows) row.marks.push("old_form");
    return rows;
  }

  #putIn(stream, row, changed) {
    if (!this.#streams.has(stream)) this.#streams.set(stream, []);
    const rows = this.#streams.get(stream);
    const at = place(rows, row.seq);
    if (rows[at - 1]?.counter > row.counter) return void row.marks.push("out_of_order");
    let end = at;
    while (rows[end]?.counter < row.counter) end += 1;
    for (const late of rows.splice(at, end - at, row)) {
      late.marks.push("out_of_order");
      late.missing = 0;
      changed.add(late);
    }
    count(rows, at, changed);
    count(rows, at + 1, changed);
  }

  #takeOut({ stream, row }, changed) {
    const rows = this.#streams.get(stream) ?? [];
    const at = remove(rows, row);
    if (at === -1) return;
    if (rows.length === 0) this.#streams.delete(stream);
    else count(rows, at, changed);
  }

  #forget(map, out) {
    if (map.size <= this.#limit) return;
    const [[oldest, entry]] = map;
    map.delete(oldest);
    out(entry);
  }
}

/** Returns where a seq stands, or would stand, among rows that ascend. */
function place(rows, seq) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].seq < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Removes a row, and returns where it stood; -1 if it is not there. */
function remove(rows, row) {
  let at = place(rows, row.seq);
  // A server that lies may give two messages one seq.
  if (rows[at] !== row) at = rows.indexOf(row);
  if (at !== -1) rows.splice(at, 1);
  return at;
}

function count(rows, at, changed) {
  if (!rows[at]) return;
  const missing = at === 0 ? 0 : rows[at].counter - rows[at - 1].counter - 1;
  if (missing === rows[at].missing) return;
  rows[at].missing = missing;
  changed.add(rows[at]);
}
