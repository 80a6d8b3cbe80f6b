//! The cause that a publisher gives for an answer, or, where it gives none that can be read, the answer itself.
//!
//! Invariant: what comes from here has a reason that shows something: it is what the log, reports and dead letters say.

use super::{Fate, PublishError, PublishResult, Unpublished};

/// `reason`, or which `call` gave the `answer` that has none.
pub(crate) fn told(reason: String, call: &str, answer: &str) -> String {
    if reason.chars().any(shows) {
        return reason;
    }
    format!("no reason given: `{call}` answered `{answer}` with an empty text")
}

/// The error, with a cause.
pub(crate) fn error(error: PublishError, call: &str) -> PublishError {
    match error {
        PublishError::Retry { reason, after } => {
            PublishError::Retry { reason: told(reason, call, "retry"), after }
        }
        PublishError::Reject { reason } => PublishError::Reject { reason: told(reason, call, "reject") },
        PublishError::Hold { reason } => PublishError::Hold { reason: told(reason, call, "hold") },
    }
}

/// The answer, each of its errors with a cause.
pub(crate) fn answer(answer: PublishResult, call: &str) -> PublishResult {
    let mut left_out = answer.map_err(|cause| error(cause, call))?;
    for Unpublished { fate, .. } in &mut left_out {
        let (reason, answer) = match fate {
            Fate::Retry { reason, .. } => (reason, "retry"),
            Fate::Reject { reason } => (reason, "reject"),
            Fate::Wait { reason, .. } => (reason, "wait"),
        };
        *reason = told(std::mem::take(reason), call, answer);
    }
    Ok(left_out)
}

/// Whether a letter can be seen: no space, no control character, none that is only there to shape others.
fn shows(letter: char) -> bool {
    !letter.is_whitespace()
        && !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{PublishError, PublishResult, Unpublished, answer, error};
    use crate::publisher::Fate;

    #[test]
    fn an_answer_without_a_reason_names_the_call_and_the_answer() {
        for empty in
            ["", " ", "\t\r\n", "\u{0}", "\u{a0}\u{2003}", "\u{200b}\u{feff}", "\u{202e}", "\u{e0020}"]
        {
            let wanted = "no reason given: `flush` answered `hold` with an empty text";
            assert_eq!(error(PublishError::hold(empty), "flush"), PublishError::hold(wanted), "{empty:?}");
            let wanted = "no reason given: `flush` answered `retry` with an empty text";
            assert_eq!(error(PublishError::retry(empty), "flush"), PublishError::retry(wanted), "{empty:?}");
        }
        assert_eq!(error(PublishError::reject("."), "flush"), PublishError::reject("."));
        let rows = |first: &str, second: &str| -> PublishResult {
            Ok(vec![
                Unpublished { row: 0, fate: Fate::Reject { reason: first.to_owned() } },
                Unpublished { row: 1, fate: Fate::Retry { reason: second.to_owned(), after: None } },
            ])
        };
        assert_eq!(
            answer(rows(" ", "é"), "publish"),
            rows("no reason given: `publish` answered `reject` with an empty text", "é")
        );
    }
}
