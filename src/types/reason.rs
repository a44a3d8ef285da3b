//! A sentence for people, together with the error behind it.

use std::error::Error;
use std::fmt;

/// The reason for a failure. The sentence is complete in itself: printing the source after it would repeat it.
#[derive(Debug)]
pub struct Reason {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Reason {
    /// Returns the error's own sentence, with the error as its source.
    pub fn of(source: impl Error + Send + Sync + 'static) -> Reason {
        Reason::with(source.to_string(), source)
    }

    /// Returns a sentence about this error.
    pub fn with(text: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Reason {
        Reason { text: text.into(), source: Some(Box::new(source)) }
    }

    /// Rewrites the sentence, and keeps the source.
    pub fn map(self, rewrite: impl FnOnce(&str) -> String) -> Reason {
        Reason { text: rewrite(&self.text), source: self.source }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the error behind the sentence, if there is one.
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        Reason { text, source: None }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Reason {
        Reason::from(text.to_string())
    }
}
