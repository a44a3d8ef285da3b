// What a person may be called: one rule for this page, the server and the command line, held together by
// tests/vectors/names.json. After RFC 8264 §9 (which code points) and RFC 8266 §2.1 (spaces): at least one visible
// character, and none that cannot be seen. Joiners and selectors stay where a script or an emoji needs them (UTS #39 §3.1.1).

/** Most characters (code points) of a name. */
export const NAME_MAX = 32;

/** Space separators (Zs): a run of them is one space; none at the ends. */
const SPACES = /[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+/gu;
/** Controls (Cc), lines' ends, and what marks annotations. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufff9-\ufffb]/u;
/** Marks that turn the reading direction. */
const DIRECTION = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
/** Surrogates without their half, and code points that are no characters for good. */
const NONCHARACTER = /[\p{Cs}\p{Noncharacter_Code_Point}]/u;
/** Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and what is drawn as nothing: Braille's and music's blanks. */
const INVISIBLE = /[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/u;

// Where joiners (U+200C, U+200D) are letters' business: the scripts from Arabic to Myanmar, from Tagalog to Vedic, and
// their likes behind. In Latin, Greek or Cyrillic they only make doubles.
const SCRIPT = "\\u0600-\\u109f\\u1700-\\u1cff\\ua800-\\uaaff\\uabc0-\\uabff\\u{10a00}-\\u{11fff}\\u{1e900}-\\u{1e95f}";
const EMOJI = "\\u00a9\\u00ae\\u203c\\u2049\\u2122\\u2139\\u2190-\\u21ff\\u2300-\\u23ff\\u24c2\\u25a0-\\u27bf\\u2934\\u2935\\u2b00-\\u2bff\\u3030\\u303d\\u3297\\u3299\\u{1f000}-\\u{1faff}";
/** A joiner between two characters of those scripts; an emoji's joiner; its selector; a keycap. */
const NEEDED = new RegExp(
  `(?<=[${SCRIPT}])[\\u200c\\u200d](?=[${SCRIPT}])|(?<=[${EMOJI}]\\ufe0f?)\\u200d(?=[${EMOJI}])`
  + `|(?<=[${EMOJI}])[\\ufe0e\\ufe0f]|(?<=[0-9#*])\\ufe0f(?=\\u20e3)`, "gu");

/**
 * Judges a name.
 * @param {string} text as it was typed or sent
 * @returns {{name: string, fault: ""|"empty"|"long"|"control"|"direction"|"noncharacter"|"invisible"}} the name in its
 *   one form, and why it is refused
 */
export function readName(text) {
  const name = text.replace(SPACES, " ").replace(/^ | $/g, "");
  const faultOf = () => {
    if (name === "") return "empty";
    // Of a long text no more is looked at; in UTF-16 a character has two units at most.
    if (name.length > 2 * NAME_MAX || [...name].length > NAME_MAX) return "long";
    if (NONCHARACTER.test(name)) return "noncharacter";
    if (DIRECTION.test(name)) return "direction";
    if (CONTROL.test(name)) return "control";
    return INVISIBLE.test(name.replace(NEEDED, "")) ? "invisible" : "";
  };
  return { name, fault: faultOf() };
}

/** What is wrong, for the person who typed it. */
export const NAME_FAULTS = {
  empty: "Type a name for the others to see.",
  long: `A name has at most ${NAME_MAX} characters.`,
  control: "This name has control characters in it.",
  direction: "This name has characters in it that turn the reading direction.",
  noncharacter: "This name has something in it that is not a character.",
  invisible: "This name has characters in it that cannot be seen.",
};
