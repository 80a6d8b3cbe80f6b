//! Structured logging into the host's log, under the publisher's label: `info!("{} rows", events.len())`.
//!
//! The host bounds lines in length and number. Outside of a host they go to standard error.

pub use crate::bindings::pressroom::publisher::log::Level;
use std::fmt::Arguments;

/// Writes one message; the macros are shorter.
pub fn write(level: Level, message: Arguments<'_>) {
    if cfg!(target_arch = "wasm32") {
        let send = |text: &str| crate::bindings::pressroom::publisher::log::log(level, text);
        match message.as_str() {
            Some(text) => send(text),
            None => send(&message.to_string()),
        }
    } else {
        #[allow(clippy::print_stderr, reason = "outside of a host there is nowhere else")]
        {
            eprintln!("{level:?}: {message}");
        }
    }
}

/// Logs what only a developer of the plugin wants to see.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($message)+)) };
}

/// Logs what helps to find a fault.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($message)+)) };
}

/// Logs what an operator may want to see.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($message)+)) };
}

/// Logs what an operator should look at.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($message)+)) };
}

/// Logs what an operator must look at.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($message)+)) };
}
