//! The faults of a request, and their form in the answer: one code for programs, one sentence for people.

use std::borrow::Cow;

/// The `code` of an `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Not a JSON object.
    BadJson,
    /// No such `type`.
    UnknownType,
    /// A field is missing, duplicated, of the wrong kind or out of bounds.
    BadField,
    AlreadyJoined,
    NotJoined,
    TooManyRooms,
    RateLimited,
    StorageUnavailable,
    KeyReused,
    /// The room takes only encrypted messages.
    NotEncrypted,
    /// This server keeps no session to resume.
    NotResumable,
    /// Whoever asks has not shown who they are, or nobody is known by what was shown.
    Unauthorized,
    /// Whoever asks is known, and may not do this.
    Forbidden,
    /// The name is that of somebody known, or looks like it.
    NameTaken,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadJson => "bad_json",
            ErrorCode::UnknownType => "unknown_type",
            ErrorCode::BadField => "bad_field",
            ErrorCode::AlreadyJoined => "already_joined",
            ErrorCode::NotJoined => "not_joined",
            ErrorCode::TooManyRooms => "too_many_rooms",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::StorageUnavailable => "storage_unavailable",
            ErrorCode::KeyReused => "key_reused",
            ErrorCode::NotEncrypted => "not_encrypted",
            ErrorCode::NotResumable => "not_resumable",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NameTaken => "name_taken",
        }
    }

    /// Is it the client's fault, so that it counts against its error budget? Whoever is over a rate is not read for a
    /// while instead.
    pub fn is_clients_fault(self) -> bool {
        !matches!(self, ErrorCode::StorageUnavailable | ErrorCode::RateLimited)
    }
}

/// The reason why a request was not carried out. The reply repeats the request's `id` if it had a readable one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub id: Option<u64>,
    pub code: ErrorCode,
    pub field: Option<&'static str>,
    pub message: Cow<'static, str>,
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    pub fn new(id: Option<u64>, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { id, code, field: None, message: message.into(), retry_after_ms: None }
    }

    pub fn field(id: Option<u64>, field: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { field: Some(field), ..Refusal::new(id, ErrorCode::BadField, message) }
    }
}
