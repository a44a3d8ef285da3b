//! Parses and formats values: sizes, durations, counts, rates, yes and no.

const KIB: u64 = 1024;
const UNITS: [(&str, u64); 4] =
    [("TiB", KIB * KIB * KIB * KIB), ("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB), ("KiB", KIB)];
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size in bytes: a whole number, alone or with `k`, `m`, `g` (or `KiB`, `MiB`, `GiB`; case does not matter).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size; write bytes, or a number with a unit: 60000, 64k, 32KiB, 8MiB, 1GiB".to_string();
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => KIB * KIB,
        "g" | "gib" => KIB * KIB * KIB,
        "t" | "tib" => KIB * KIB * KIB * KIB,
        "kb" | "mb" | "gb" | "tb" => {
            return Err(format!("{unit} is 1000 to some and 1024 to others; write KiB, MiB or GiB"));
        }
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Reads a duration in milliseconds: a whole number with `ms`, `s`, `m`, `h` or `d`; `0` needs no unit.
pub fn duration(text: &str) -> Result<u64, String> {
    let wrong = || "not a duration; write a number with a unit: 250ms, 10s, 2m, 1h, 7d".to_string();
    let (number, unit) = split(text).ok_or_else(wrong)?;
    if unit.is_empty() && number == 0 {
        return Ok(0);
    }
    let factor = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    number.checked_mul(factor).ok_or_else(wrong)
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    match split(text) {
        Some((number, "")) => Ok(number),
        _ => Err("not a whole number".to_string()),
    }
}

/// Reads a rate in events per unit of time: `20`, or `20/s` where the setting counts per `s`.
pub(super) fn rate(text: &str, per: &str) -> Result<u64, String> {
    match split(text) {
        Some((number, "")) => Ok(number),
        Some((number, unit)) if unit.strip_prefix('/') == Some(per) => Ok(number),
        _ => Err(format!("not a rate; write a number, such as 20 or 20/{per}; 0 is no limit")),
    }
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("allowed: true, false".to_string()),
    }
}

/// Formats a size in the largest unit that leaves a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Formats a duration in the largest unit with a whole number above 1: `60s` stays, `120s` is `2m`. One second is `1s`.
pub(super) fn show_duration(milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".to_string();
    }
    match TIMES
        .iter()
        .find(|(_, factor)| milliseconds.is_multiple_of(*factor) && (milliseconds > *factor || *factor == 1_000))
    {
        Some((unit, factor)) => format!("{}{unit}", milliseconds / factor),
        None => format!("{milliseconds}ms"),
    }
}

/// Returns the text as a quoted TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Breaks text at spaces into lines of at most `width` characters; a longer word gets a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Splits `32 KiB` into 32 and `KiB`.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("60000", 60_000),
            ("64k", 65_536),
            ("32KiB", 32_768),
            ("8 mib", 8 << 20),
            ("1G", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "k", "-1", "1.5k", "64kk", "64KB", "0x10", "18446744073709551616", "99999999999g", "١"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [("0", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(ms), "{text}");
        }
        assert_eq!(duration("7d"), Ok(604_800_000));
        for bad in ["", "10", "s", "1.5s", "10S", "1w", "10s5", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_counts_flags() {
        assert_eq!(rate("20/min", "min"), Ok(20));
        assert_eq!(rate("0", "s"), Ok(0));
        assert!(rate("20/s", "min").is_err() && rate("fast", "s").is_err());
        assert_eq!(count(" 7 "), Ok(7));
        assert!(count("7k").is_err() && count("").is_err());
        assert_eq!((flag("Yes"), flag("0")), (Ok(true), Ok(false)));
        assert!(flag("").is_err() && flag("maybe").is_err());
    }

    #[test]
    fn wrapping() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaaa b", 5), ["aaaaaaaa", "b"]);
        assert!(wrap("", 5).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(number in any::<u64>(), shift in 0u32..64) {
            let number = number >> shift;
            prop_assert_eq!(size(&show_size(number)), Ok(number));
            prop_assert_eq!(duration(&show_duration(number)), Ok(number));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = (size(&text), duration(&text), count(&text), rate(&text, "s"), flag(&text));
        }
    }
}
