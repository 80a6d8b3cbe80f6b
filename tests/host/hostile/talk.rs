//! It talks too much, or so that others might mistake its words for the host's.

use super::case::{Case, ROOMY, guest};
use crate::support::Folder;

/// What must not be seen of the host comes from a file.
pub fn before(folder: &Folder) {
    std::fs::write(folder.path("secret.txt"), super::driver::SECRET).unwrap();
}

/// One that gives no reason.
fn blank(name: &'static str, answer: &str, reason: &str) -> Case {
    guest(name).config(&format!("do = \"blank\", answer = \"{answer}\", reason = \"{reason}\""))
}

pub fn cases() -> Vec<Case> {
    let secret = format!("secret = \"${{file:{}}}\"", "secret.txt");
    vec![
        guest("log-flood").spins(),
        guest("stdout-flood").spins(),
        guest("stderr-flood").spins(),
        guest("spin-stdout").spins(),
        guest("endless-line").with("bytes = 4194304").limits(ROOMY).delivers(&[]),
        guest("long-line")
            .config("do = \"huge-log\", bytes = 4194304")
            .limits(ROOMY)
            .delivers(&["info: xxxx"]),
        guest("long-error")
            .config("do = \"giant-error\", bytes = 1000000")
            .limits(ROOMY)
            .fails("… (cut, was 1000000 bytes)"),
        guest("control-characters").delivers(&["\\u{1b}[2J\\u{7}\\r\\nERROR forged: "]),
        guest("forged-error").fails("forged"),
        guest("forged-refusal")
            .config("do = \"start-error\", reason = \"no\\nERROR forged: all is lost\"")
            .fails("forged"),
        guest("forged-flush")
            .config("do = \"flush-error\", reason = \"no\\nERROR forged: all is lost\"")
            .falters("forged"),
        // Of events or of operations, whichever came first: the log has it once.
        blank("blank-hold", "hold", "").fails("metrics` answered `hold` with an empty text"),
        blank("blank-retry", "retry", " \\t").fails("metrics` answered `retry` with an empty text"),
        blank("blank-reject", "reject", "\\u200b")
            .sets_aside("metrics` answered `reject` with an empty text"),
        blank("blank-row", "row", "").sets_aside("metrics` answered `reject` with an empty text"),
        blank("blank-flush", "flush", "").falters("no reason given: `flush` answered `retry`"),
        blank("blank-refusal", "start", " ").fails("no reason given: `start` answered `error`"),
        guest("forged-panic").fails("forged"),
        guest("secret-in-log").with(&secret).delivers(&["my secret is "]),
        guest("secret-in-error").with(&secret).fails("my secret is "),
        guest("secret-in-reject").with(&secret).sets_aside("my secret is "),
        guest("secret-in-row").with(&secret).sets_aside("my secret is "),
        guest("secret-in-panic").with(&secret).fails("my secret is "),
        guest("secret-in-refusal").with(&secret).fails("my secret is "),
    ]
}
