// Tells sealed bodies from others, without the code that opens them.

/** Is this a sealed body? One with further fields would show something in the clear. */
export function isSealed(body) {
  const parts = { 1: ["k", "n", "c"], 2: ["i", "k", "n", "c"] }[body?.e2e];
  return parts !== undefined && Object.keys(body).length === parts.length + 1 && parts.every((part) => typeof body[part] === "string");
}
