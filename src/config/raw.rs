//! Reads TOML by hand, key by key, with the place of each: serde would stop at the first problem,
//! and the reader of a configuration wants them all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::advice;
use super::problem::{Problems, Shows};
use super::shape::{KeyKind, Shape};
use super::source::{Source, SourceLine};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// One table of the file. Remembers which keys were asked for: whatever is left over in the end
/// is unknown.
pub struct ConfigTable<'a> {
    /// As in `cluster.endpoint`, for messages.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// Where the table itself stands.
    pub span: Range<usize>,
    asked: BTreeSet<&'static str>,
    reading: &'a Reading<'a>,
}

/// What all tables of a configuration share while they are read.
pub struct Reading<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: RefCell<Problems>,
    /// What is asked for, where that is wanted.
    pub(super) shape: Option<Shape>,
}

impl<'a> Reading<'a> {
    /// Notes problems.
    #[must_use]
    pub fn new(source: &'a Source) -> Self {
        Self { source, problems: RefCell::default(), shape: None }
    }

    /// Takes down what is asked for as well.
    pub(super) fn recording(source: &'a Source) -> Self {
        Self { shape: Some(Shape::default()), ..Self::new(source) }
    }
}

impl<'a> ConfigTable<'a> {
    /// The whole file.
    pub fn root(table: &'a Spanned<DeTable<'a>>, reading: &'a Reading<'a>) -> Self {
        let (path, asked) = Default::default();
        Self { path, table: Some(table.get_ref()), span: 0..0, asked, reading }
    }

    /// All the text.
    #[must_use]
    pub const fn source(&self) -> &'a Source {
        self.reading.source
    }

    fn note(&self, key: &str, kind: impl FnOnce() -> KeyKind) {
        if let Some(shape) = &self.reading.shape {
            shape.note(self.key(key), kind());
        }
    }

    /// One of those in it.
    fn inner(&self, path: String, table: Option<&'a DeTable<'a>>, span: Range<usize>) -> Self {
        Self { path, table, span, asked: BTreeSet::new(), reading: self.reading }
    }

    /// Notes an error at a place.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) {
        self.reading.problems.borrow_mut().error(span, message);
    }

    /// Notes an error about a value that may be a secret.
    pub fn error_secret(&self, span: Range<usize>, message: impl Into<String>) {
        self.reading.problems.borrow_mut().error_hidden(span, message, Shows::Keys);
    }

    /// Notes an error that has a way out.
    pub fn error_with_help(&self, span: Range<usize>, message: String, help: String) {
        self.reading.problems.borrow_mut().error_with_help(span, message, help);
    }

    /// Notes a warning at a place.
    pub fn warning(&self, span: Range<usize>, message: impl Into<String>) {
        self.reading.problems.borrow_mut().warning(span, message);
    }

    /// Full name of a key, for messages.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the table itself is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a key is there.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.take(key).is_some()
    }

    /// Where a key's value stands; the table if it is missing.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The line of a key's value.
    #[must_use]
    pub fn line_of(&self, key: &str) -> SourceLine {
        self.reading.source.line(self.place_of(key).start)
    }

    /// A file; a relative path begins at the folder of the file that it stands in.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.string(key)?;
        Some(self.reading.source.path(text.span.start, &text.value))
    }

    /// A file that stands in a text which another function has read.
    #[must_use]
    pub fn path_at(&self, span: &Range<usize>, text: &str) -> PathBuf {
        self.reading.source.path(span.start, text)
    }

    /// Whether a key is there, which another function will read.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// What a string says, without taking it: the key stays to be asked for. `None` if it is no string.
    #[must_use]
    pub fn text_of(&self, key: &str) -> Option<&'a str> {
        match self.table.and_then(|table| table.get(key)).map(Spanned::get_ref) {
            Some(DeValue::String(text)) => Some(text),
            _ => None,
        }
    }

    /// How many items a list has; 0 if there is none.
    #[must_use]
    pub fn length_of(&self, key: &str) -> usize {
        match self.table.and_then(|table| table.get(key)).map(Spanned::get_ref) {
            Some(DeValue::Array(items)) => items.len(),
            _ => 0,
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table?.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.error_secret(
            value.span(),
            format!("\"{}\" must be {wanted}, not {found}", self.key(key)),
        );
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.note(key, || KeyKind::Text);
        self.text(key)
    }

    fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => {
                Some(Located { value: text.clone().into_owned(), span: value.span() })
            }
            _ => {
                self.wrong_type(key, value, "a string");
                None
            }
        }
    }

    /// Says how a value is written that is not there as a string.
    pub fn must_be_like(&mut self, key: &'static str, examples: &[&str]) -> bool {
        let Some(value) = self.take(key) else { return true };
        if let DeValue::String(_) = value.get_ref() {
            return true;
        }
        let found = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            other => other.type_str().to_owned(),
        };
        let shown: Vec<String> = examples.iter().map(|one| format!("\"{one}\"")).collect();
        let message = format!(
            "\"{}\" must be a string like {}, not {found}",
            self.key(key),
            shown.join(" or ")
        );
        self.error_secret(value.span(), message);
        false
    }

    /// A string that must mean something.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(key)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                let key = self.key(key);
                // A password of a URL, which no address has here.
                if text.value.contains('@') {
                    let message =
                        format!("\"{key}\" has a \"@\": a user and a password have no place here");
                    self.error_secret(text.span, message);
                } else if key == "cluster.sticky.key" {
                    self.error_secret(text.span, format!("\"{key}\": {message}"));
                } else {
                    self.error(text.span, format!("\"{key}\": {message}"));
                }
                None
            }
        }
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let all = || words.iter().map(|(word, _)| (*word).to_owned()).collect();
        self.note(key, || KeyKind::Words(all()));
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("\"{}\" cannot be \"{}\"", self.key(key), text.value);
        self.error_near(text.span, message, &text.value, &names);
        None
    }

    /// True or false.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.note(key, || KeyKind::Boolean);
        let value = self.take(key)?;
        let DeValue::Boolean(found) = value.get_ref() else {
            self.wrong_type(key, value, "true or false");
            return None;
        };
        Some(*found)
    }

    /// True or false, where something else may stand as well.
    pub fn switch(&mut self, key: &'static str) -> Option<bool> {
        self.note(key, || KeyKind::Boolean);
        match self.take(key)?.get_ref() {
            DeValue::Boolean(found) => Some(*found),
            _ => None,
        }
    }

    /// A whole number in a range.
    pub fn number(&mut self, key: &'static str, range: Range<u64>) -> Option<u64> {
        self.note(key, || KeyKind::Number(range.start, range.end - 1));
        let value = self.take(key)?;
        let DeValue::Integer(found) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(found.as_str(), found.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = (range.start, range.end - 1);
            let message = format!("\"{}\" must be from {low} to {high}", self.key(key));
            self.error(value.span(), message);
        }
        number
    }

    /// A share of all, from 0 to 1.
    pub fn share(&mut self, key: &'static str) -> Option<f64> {
        self.note(key, || KeyKind::Share);
        let value = self.take(key)?;
        let found = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => {
                self.wrong_type(key, value, "a number from 0 to 1");
                return None;
            }
        };
        let found = found.filter(|share: &f64| (0.0..=1.0).contains(share));
        if found.is_none() {
            self.error(value.span(), format!("\"{}\" must be from 0.0 to 1.0", self.key(key)));
        }
        found
    }

    /// A number or a string, as text.
    pub fn number_or_string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.note(key, || KeyKind::Number(0, u64::from(u32::MAX)));
        self.note(key, || KeyKind::Text);
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Integer(number) => {
                Some(Located { value: number.to_string(), span: value.span() })
            }
            _ => self.string(key),
        }
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &'static str) -> Vec<Located<String>> {
        self.note(key, || KeyKind::Texts);
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, "a list of strings");
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    found.push(Located { value: text.clone().into_owned(), span: item.span() });
                }
                _ => self.wrong_type(key, item, "a list of strings"),
            }
        }
        found
    }

    /// A table of names and strings, in the order of the names.
    pub fn pairs(&mut self, key: &'static str) -> Vec<(Located<String>, Located<String>)> {
        self.note(key, || KeyKind::Pairs);
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(key, value, "a table of names and strings");
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in table.iter() {
            match value.get_ref() {
                DeValue::String(text) => found.push((
                    Located { value: name.get_ref().clone().into_owned(), span: name.span() },
                    Located { value: text.clone().into_owned(), span: value.span() },
                )),
                _ => self.wrong_type(key, value, "a table of names and strings"),
            }
        }
        found
    }

    /// A table, empty if it is missing.
    pub fn table(&mut self, key: &'static str) -> Self {
        self.note(key, || KeyKind::Table);
        let path = self.key(key);
        let Some(value) = self.take(key) else {
            return self.inner(path, None, self.span.clone());
        };
        match value.get_ref() {
            DeValue::Table(table) => self.inner(path, Some(table), value.span()),
            _ => {
                let wanted = if key == "cache" { "true, false or a table" } else { "a table" };
                self.wrong_type(key, value, wanted);
                self.inner(path, None, value.span())
            }
        }
    }

    /// A list of tables.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        self.note(key, || KeyKind::Tables);
        let path = self.key(key);
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, &format!("a list of tables: write [[{path}]]"));
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    found.push(self.inner(path.clone(), Some(table), item.span()));
                }
                _ => self.wrong_type(key, item, "a table"),
            }
        }
        found
    }

    /// Complains about every key that no function has read.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        let known: Vec<&str> = self.asked.iter().copied().collect();
        for (name, _) in table.iter() {
            if !self.asked.contains(name.get_ref().as_ref()) {
                let place = if self.path.is_empty() {
                    "at the top of the file".to_owned()
                } else {
                    format!("in \"{}\"", self.path)
                };
                let message = format!("unknown key \"{}\" {place}", name.get_ref());
                match advice::of_key(&self.path, name.get_ref()) {
                    Some(help) => self.reading.problems.borrow_mut().error_with_help(
                        name.span(),
                        message,
                        help.to_owned(),
                    ),
                    None => self.error_near(name.span(), message, name.get_ref(), &known),
                }
            }
        }
    }

    /// Notes an error about a word, with the nearest known word, or all of them.
    pub fn error_near(&self, span: Range<usize>, message: String, word: &str, known: &[&str]) {
        let near = known
            .iter()
            .map(|one| (strsim::damerau_levenshtein(one, word), one))
            .filter(|(distance, one)| *distance <= 1 + one.len() / 4)
            .min();
        let help = match near {
            Some((_, one)) => format!("did you mean \"{one}\"?"),
            None if known.is_empty() => String::new(),
            None => format!("known here: {}", known.join(", ")),
        };
        self.reading.problems.borrow_mut().error_with_help(span, message, help);
    }
}
