//! Credentials of a request: `Authorization: Bearer TOKEN` (RFC 6750 §2.1).

use super::headers::Headers;
use super::problem::Problem;

/// The answer to whoever should show a token (RFC 6750 §3).
pub const CHALLENGE: &str = "Bearer realm=\"racerd\"";

/// The answer to whoever showed a token that is none (RFC 6750 §3.1).
pub const INVALID: &str = "Bearer realm=\"racerd\", error=\"invalid_token\"";

/// Returns the token that a request shows, if it shows one. Credentials of other schemes are not for us: a proxy before
/// us may ask for a password, and passes it on.
///
/// # Errors
/// 400 where the header is given twice: another reader of the same request may believe the other one.
pub fn bearer(headers: &Headers) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.one("Authorization")? else { return Ok(None) };
    // Without a blank the scheme stands alone, and the token is missing: an empty one, which nobody has.
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    Ok(scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, u16> {
        let headers = Headers::collect(values.iter().map(|value| ("Authorization", value.as_bytes())));
        bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|problem| problem.status.code())
    }

    #[test]
    fn a_token_is_what_follows_bearer() {
        for (value, token) in [("Bearer abc", "abc"), ("bearer  abc", "abc"), ("BEARER a=", "a="), ("Bearer", "")] {
            assert_eq!(of(&[value]), Ok(Some(token.to_owned())), "{value}");
        }
        for other in ["Basic YTpi", "Bearerabc", "", "Digest x"] {
            assert_eq!(of(&[other]), Ok(None), "{other}");
        }
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer a", "Bearer a"]), Err(400));
    }
}
