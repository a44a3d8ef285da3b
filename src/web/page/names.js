// Validates names by the server's rule (src/types/name.rs); tests/vectors/ holds both together. It follows RFC 8264 §9
// (code points), RFC 8266 §2.1 (spaces) and UTS #39 §3.1.1 (joiners and selectors only where a script or an emoji needs
// them).

/** The most code points of a name. */
export const NAME_MAX = 32;

/** Space separators (Zs). */
const SPACES = /[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+/gu;
/** Controls (Cc), line ends and annotation marks. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufff9-\ufffb]/u;
/** Characters that change the reading direction, for a regular expression. */
export const DIRECTION_MARKS = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069";
const DIRECTION = new RegExp(`[${DIRECTION_MARKS}]`, "u");
/** Unpaired surrogates and noncharacters. */
const NONCHARACTER = /[\p{Cs}\p{Noncharacter_Code_Point}]/u;
/** Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and the blanks of Braille and music. */
const INVISIBLE = /[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/u;

// The scripts whose spelling uses joiners (U+200C, U+200D): Arabic to Myanmar, Tagalog to Vedic, and related ones. In
// Latin, Greek or Cyrillic, joiners only make look-alikes.
const SCRIPT = "\\u0600-\\u109f\\u1700-\\u1cff\\ua800-\\uaaff\\uabc0-\\uabff\\u{10a00}-\\u{11fff}\\u{1e900}-\\u{1e95f}";
const EMOJI = "\\u00a9\\u00ae\\u203c\\u2049\\u2122\\u2139\\u2190-\\u21ff\\u2300-\\u23ff\\u24c2\\u25a0-\\u27bf\\u2934\\u2935\\u2b00-\\u2bff\\u3030\\u303d\\u3297\\u3299\\u{1f000}-\\u{1faff}";
/** A joiner between two characters of those scripts or two emoji; an emoji's selector; a keycap. */
const NEEDED = new RegExp(
  `(?<=[${SCRIPT}])[\\u200c\\u200d](?=[${SCRIPT}])|(?<=[${EMOJI}]\\ufe0f?)\\u200d(?=[${EMOJI}])`
  + `|(?<=[${EMOJI}])[\\ufe0e\\ufe0f]|(?<=[0-9#*])\\ufe0f(?=\\u20e3)`, "gu");

/**
 * Normalises a name, and tells why it is refused.
 * @returns {{name: string, fault: ""|"empty"|"long"|"control"|"direction"|"noncharacter"|"invisible"}}
 */
export function readName(text) {
  const name = text.replace(SPACES, " ").replace(/^ | $/g, "");
  const faultOf = () => {
    if (name === "") return "empty";
    // Bounds the work on long texts; in UTF-16 a character has at most two units.
    if (name.length > 2 * NAME_MAX || [...name].length > NAME_MAX) return "long";
    if (NONCHARACTER.test(name)) return "noncharacter";
    if (DIRECTION.test(name)) return "direction";
    if (CONTROL.test(name)) return "control";
    return INVISIBLE.test(name.replace(NEEDED, "")) ? "invisible" : "";
  };
  return { name, fault: faultOf() };
}

export const NAME_FAULTS = {
  empty: "Enter a name for others to see.",
  long: `A name has at most ${NAME_MAX} characters.`,
  control: "This name contains control characters.",
  direction: "This name contains characters that change the reading direction.",
  noncharacter: "This name contains something that is not a character.",
  invisible: "This name contains invisible characters.",
};
