//! What is wrong with a configuration, shown so that it can be mended: every problem, each with
//! its place, the line, a caret, and a way out.

use std::fmt::Write;
use std::ops::Range;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Shown; the configuration works.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Octets of the text.
    pub span: Range<usize>,
    pub message: String,
    /// A way out; may be empty.
    pub help: String,
}

/// Every problem of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes an error.
    pub fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(Severity::Error, span, message.into(), String::new());
    }

    /// Notes an error that has a way out.
    pub fn error_with_help(&mut self, span: Range<usize>, message: String, help: String) {
        self.push(Severity::Error, span, message, help);
    }

    /// Notes a warning.
    pub fn warning(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(Severity::Warning, span, message.into(), String::new());
    }

    fn push(&mut self, severity: Severity, span: Range<usize>, message: String, help: String) {
        self.0.push(Problem { severity, span, message, help });
    }

    /// Whether the configuration is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all is well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them in the order of the text, ready to print.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        let mut sorted: Vec<&Problem> = self.0.iter().collect();
        sorted.sort_by_key(|problem| (problem.span.start, problem.span.end));
        sorted.iter().map(|problem| render(problem, file, text)).collect()
    }
}

/// Line and column of an octet, both from one; columns count characters.
#[must_use]
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn render(problem: &Problem, file: &str, text: &str) -> String {
    let (line, column) = place(text, problem.span.start);
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let shown: String =
        content.chars().take(160).map(|char| if char.is_control() { ' ' } else { char }).collect();
    let left = shown.chars().count().saturating_sub(column - 1).max(1);
    let wide = text
        .get(problem.span.clone())
        .map_or(1, |part| part.lines().next().unwrap_or_default().chars().count().clamp(1, left));
    let gutter = line.to_string().len();
    let mut out = String::new();
    let _ = writeln!(out, "{word}: {}", problem.message);
    let _ = writeln!(out, "{:gutter$}--> {file}:{line}:{column}", "");
    let _ = writeln!(out, "{:gutter$} |", "");
    let _ = writeln!(out, "{line} | {shown}");
    let carets = "^".repeat(wide);
    let _ = writeln!(out, "{:gutter$} | {:indent$}{carets}", "", "", indent = column - 1);
    if !problem.help.is_empty() {
        let _ = writeln!(out, "{:gutter$} = help: {}", "", problem.help);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_with_a_caret() {
        let text = "[server]\ncoers = 2\n";
        let mut problems = Problems::default();
        problems.error_with_help(9..14, "unknown key".into(), "did you mean \"cores\"?".into());
        let expected = "error: unknown key\n --> a.toml:2:1\n  |\n2 | coers = 2\n  | ^^^^^\n  \
                        = help: did you mean \"cores\"?\n\n";
        assert_eq!(problems.render("a.toml", text), expected);
    }
}
