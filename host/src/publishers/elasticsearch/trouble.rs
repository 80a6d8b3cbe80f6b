//! Why something is not done yet, and whether time mends it or a person has to.

use crate::publisher::PublishError;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may work later.
    Retry { reason: String, after: Option<Duration> },
    /// Somebody has to mend something first.
    Hold { reason: String },
}

impl Trouble {
    pub(super) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    pub(super) fn hold(reason: impl Into<String>) -> Self {
        Self::Hold { reason: reason.into() }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Hold { reason } => reason,
        }
    }
}

impl From<Trouble> for PublishError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Retry { reason, after } => Self::Retry { reason, after },
            Trouble::Hold { reason } => Self::Hold { reason },
        }
    }
}
