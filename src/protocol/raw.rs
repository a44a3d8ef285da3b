//! Parts of a JSON text that is kept as it was sent: names of fields, numbers, strings, the entries of an object.
//! None of them has an error text: serde's would quote what was sent, at whatever length.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::types::MAX_NUMBER;

/// Reads a whole number from 0 to 2^53 in plain digits: `1.0` and `1e2` are refused rather than changed to a neighbour.
pub(super) fn whole_number(raw: &RawValue) -> Option<u64> {
    let text = raw.get();
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= MAX_NUMBER)
}

/// Reads a string, which is borrowed if it contains no escape.
pub(super) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'))
        && !inner.contains('\\')
    {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(text).map(Cow::Owned).ok()
}

/// Calls `take` with each entry of an object, in order, up to the first fault.
///
/// # Errors
/// That fault; or what is wrong with the object itself.
pub(super) fn entries<'a>(
    raw: &'a RawValue,
    take: impl FnMut(&str, &'a RawValue) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    // Told here, because serde would quote any other value.
    if !raw.get().starts_with('{') {
        return Err("expected an object");
    }
    let mut fault = None;
    let visitor = EntriesVisitor { take, fault: &mut fault };
    let read = serde_json::Deserializer::from_str(raw.get()).deserialize_map(visitor);
    match (read, fault) {
        (_, Some(fault)) => Err(fault),
        (Ok(()), None) => Ok(()),
        // The raw text is valid JSON, whose only fault can be half of a surrogate pair in a name.
        (Err(_), None) => Err("a name is not Unicode"),
    }
}

struct EntriesVisitor<'f, F> {
    take: F,
    fault: &'f mut Option<&'static str>,
}

impl<'de, F: FnMut(&str, &'de RawValue) -> Result<(), &'static str>> Visitor<'de> for EntriesVisitor<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some((FieldName(name), value)) = map.next_entry::<FieldName<'de>, &RawValue>()? {
            if let Err(fault) = (self.take)(&name, value) {
                *self.fault = Some(fault);
                return Err(M::Error::custom(fault));
            }
        }
        Ok(())
    }
}

/// Any JSON string; compares after unescaping.
pub(super) struct FieldName<'a>(pub Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = FieldName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
