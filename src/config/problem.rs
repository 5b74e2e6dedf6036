//! What is wrong with a configuration, shown so that it can be mended: every problem, each with
//! its place, the line, a caret, and a way out.

use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;

use super::source::Source;

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
    pub shows: Shows,
}

/// How much of its line a problem shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Keys, and the value that is wrong.
    Value,
    /// Keys alone: the value may be a secret.
    Keys,
    /// What stands before the first value: it is not known where values begin and end.
    Beginning,
}

/// Every problem of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes an error.
    pub fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(Severity::Error, span, message.into(), String::new());
    }

    /// Notes an error whose place must not be shown as it is.
    pub fn error_hidden(&mut self, span: Range<usize>, message: impl Into<String>, shows: Shows) {
        self.error(span, message);
        if let Some(last) = self.0.last_mut() {
            last.shows = shows;
        }
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
        self.0.push(Problem { severity, span, message, help, shows: Shows::Value });
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

    /// All of them in the order of a single text, ready to print.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        self.render_all(&Source::new(file, text))
    }

    /// The same of several files.
    #[must_use]
    pub fn render_all(&self, source: &Source) -> String {
        let mut sorted: Vec<&Problem> = self.0.iter().collect();
        sorted.sort_by_key(|problem| (problem.span.start, problem.span.end));
        // Where one value is not closed the next ones are not known either: nothing of such a line is shown.
        let page = Page::new(source.text());
        let broken: HashSet<usize> = sorted
            .iter()
            .filter(|problem| problem.shows == Shows::Beginning)
            .map(|problem| page.line_of(problem.span.start))
            .collect();
        let one = |problem: &&Problem| {
            let is_broken = broken.contains(&page.line_of(problem.span.start));
            let shows = if is_broken { Shows::Beginning } else { problem.shows };
            render(problem, shows, source, &page)
        };
        sorted.iter().map(one).collect()
    }
}

/// A text of which much is to be shown: thousands of problems do not read it from its beginning.
struct Page<'a> {
    text: &'a str,
    /// Where lines begin.
    lines: Vec<usize>,
    /// What stands inside of strings, in order.
    strings: Vec<Range<usize>>,
}

impl<'a> Page<'a> {
    fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, lines, strings: strings(text) }
    }

    /// The number of an octet's line, from one.
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    /// Where a line begins, and what it says.
    fn line(&self, number: usize) -> (usize, &'a str) {
        let from = self.lines[number - 1];
        (from, self.text.get(from..).and_then(|rest| rest.lines().next()).unwrap_or_default())
    }

    /// The strings that reach into a part of the text.
    fn strings_in(&self, part: &Range<usize>) -> Vec<Range<usize>> {
        let first = self.strings.partition_point(|one| one.end <= part.start);
        self.strings[first..].iter().take_while(|one| one.start < part.end).cloned().collect()
    }
}

fn render(problem: &Problem, shows: Shows, source: &Source, page: &Page<'_>) -> String {
    let (from, content) = page.line(page.line_of(problem.span.start));
    let (file, line, column) = source.place(problem.span.start);
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (shown, indent, wide) = shown(problem, shows, page, from..from + content.len());
    let gutter = line.to_string().len();
    let mut out = String::new();
    let _ = writeln!(out, "{word}: {}", problem.message);
    let _ = writeln!(out, "{:gutter$}--> {file}:{line}:{column}", "");
    let _ = writeln!(out, "{:gutter$} |", "");
    let _ = writeln!(out, "{line} | {shown}");
    let carets = "^".repeat(wide);
    let _ = writeln!(out, "{:gutter$} | {:indent$}{carets}", "", "", indent = indent);
    if !problem.help.is_empty() {
        let _ = writeln!(out, "{:gutter$} = help: {}", "", problem.help);
    }
    out.push('\n');
    out
}

/// A problem's line without the other values that stand in it, which may be secrets (exam R19), and
/// where the carets go: how far in, how wide.
fn shown(
    problem: &Problem,
    shows: Shows,
    page: &Page<'_>,
    part: Range<usize>,
) -> (String, usize, usize) {
    let Range { start: from, end } = part;
    let content = &page.text[part.clone()];
    let mut hidden = match shows {
        Shows::Beginning => {
            let value = content.find('=').map_or(0, |at| at + 1);
            std::iter::once(from + value..end).collect()
        }
        _ => page.strings_in(&part),
    };
    if shows == Shows::Value {
        let start = problem.span.start;
        hidden.retain(|one| one.start != start + 1 && one.start != start + 3);
    }
    let (mut out, mut begins, mut ends) = (String::new(), 0, 0);
    for (at, char) in content.char_indices() {
        let at = from + at;
        let within = hidden.iter().find(|one| one.contains(&at));
        if at == problem.span.start {
            begins = out.chars().count();
        }
        match within {
            Some(one) if at == one.start.max(from) => out.push('\u{2026}'),
            Some(_) => {}
            None => out.push(if char.is_control() { ' ' } else { char }),
        }
        if at < problem.span.end {
            ends = out.chars().count();
        }
    }
    if problem.span.start >= end {
        begins = out.chars().count();
    }
    let out: String = out.chars().take(160).collect();
    (out, begins, ends.saturating_sub(begins).max(1))
}

/// What stands inside of strings. Comments may hold quotes.
fn strings(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let quote = bytes[at];
        match quote {
            b'#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
            b'"' | b'\'' => {
                let three = [quote; 3];
                let is_long = bytes[at..].starts_with(&three);
                let closing: &[u8] = if is_long { &three } else { &three[..1] };
                let begin = at + closing.len();
                let mut end = begin;
                while end < bytes.len() && !bytes[end..].starts_with(closing) {
                    if bytes[end] == b'\n' && !is_long {
                        break;
                    }
                    end += if quote == b'"' && bytes[end] == b'\\' { 2 } else { 1 };
                }
                let end = end.min(bytes.len());
                found.push(begin.min(end)..end);
                at = end + closing.len();
            }
            _ => at += 1,
        }
    }
    found
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
