//! What became of a batch, in the words of the contract.

use crate::bindings::exports::pressroom::publisher::publisher as wit;
use std::fmt;
use std::time::Duration;

/// What became of a batch that was published: the rows that were left out, none as a rule.
pub type PublishResult = Result<Vec<Unpublished>, PublishError>;

/// Why a batch as a whole was not published.
///
/// An [`std::io::Error`] becomes a retry by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// It may work later: the host tries again, until the batch is too old.
    Retry {
        /// Why not now.
        reason: String,
        /// How long the host is to wait, up to a bound of the operator's; without it, as long as its backoff says.
        after: Option<Duration>,
    },
    /// It never will: the host sets the batch aside as dead letters.
    Reject {
        /// Why not.
        reason: String,
    },
    /// It will work once somebody has mended something: a credential, a grant. The host keeps the batch, says so
    /// loudly, tries again now and then, and does not count the time against the batch's age.
    Hold {
        /// What is to be mended.
        reason: String,
    },
}

impl PublishError {
    /// It may work later.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// It may work later, but not before `after` has passed.
    pub fn retry_after(reason: impl Into<String>, after: Duration) -> Self {
        Self::Retry { reason: reason.into(), after: Some(after) }
    }

    /// It never will.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    /// Somebody must mend something first; `reason` says what.
    pub fn hold(reason: impl Into<String>) -> Self {
        Self::Hold { reason: reason.into() }
    }

    /// The text for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Reject { reason } | Self::Hold { reason } => reason,
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.reason())
    }
}

impl std::error::Error for PublishError {}

impl From<std::io::Error> for PublishError {
    fn from(error: std::io::Error) -> Self {
        Self::retry(error.to_string())
    }
}

/// A row that was not published although its batch was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// Its number, from 0, within the batch passed.
    pub row: u32,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of a row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may work later.
    Retry {
        /// Why not now.
        reason: String,
        /// How long the host is to wait at least.
        after: Option<Duration>,
    },
    /// It never will: it becomes a dead letter.
    Reject {
        /// Why not.
        reason: String,
    },
}

impl Unpublished {
    /// This row may be published later.
    pub fn retry(row: usize, reason: impl Into<String>) -> Self {
        Self { row: number(row), fate: Fate::Retry { reason: reason.into(), after: None } }
    }

    /// This row may be published later, but not before `after` has passed.
    pub fn retry_after(row: usize, reason: impl Into<String>, after: Duration) -> Self {
        Self { row: number(row), fate: Fate::Retry { reason: reason.into(), after: Some(after) } }
    }

    /// This row never will be.
    pub fn reject(row: usize, reason: impl Into<String>) -> Self {
        Self { row: number(row), fate: Fate::Reject { reason: reason.into() } }
    }
}

/// A batch has fewer rows than that; what is out of range the host counts and passes over.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn advice(reason: String, after: Option<Duration>) -> wit::RetryAdvice {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    wit::RetryAdvice { reason, after_ms }
}

impl From<PublishError> for wit::PublishError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Retry { reason, after } => Self::Retry(advice(reason, after)),
            PublishError::Reject { reason } => Self::Reject(reason),
            PublishError::Hold { reason } => Self::Hold(reason),
        }
    }
}

impl From<Unpublished> for wit::Unpublished {
    fn from(row: Unpublished) -> Self {
        let fate = match row.fate {
            Fate::Retry { reason, after } => wit::Fate::Retry(advice(reason, after)),
            Fate::Reject { reason } => wit::Fate::Reject(reason),
        };
        Self { row: row.row, fate }
    }
}
