//! Lines for the operator on standard error. A closed standard error is nobody's problem.

use std::fmt::Display;
use std::io::Write;

/// Something that happened.
pub fn note(message: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "millrace: {message}");
}

/// Something that should not have, but that we live with.
pub fn warn(message: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "millrace: warning: {message}");
}
