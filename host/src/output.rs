//! What leaves the process by another way than HTTP: lines in files, and texts that people read.
//!
//! A leaf: every room may use it, and it uses none.

pub mod escape;
pub mod file;
pub mod log;
