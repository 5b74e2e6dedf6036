//! The text of a configuration: a file, and behind it those that it includes. Places count through all of them, and
//! know whose they are.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// All the text, and which part is which file's.
#[derive(Clone, Debug)]
pub struct Source {
    text: String,
    /// Never empty.
    parts: Vec<Part>,
    /// What was wrong with an `include` before anything was read.
    faults: Vec<(Range<usize>, String)>,
}

#[derive(Clone, Debug)]
struct Part {
    name: Arc<str>,
    start: usize,
    folder: PathBuf,
}

impl Source {
    /// A single file, under the name that people know.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { text: text.to_owned(), parts: vec![Part::new(name, 0)], faults: Vec::new() }
    }

    /// Adds a file that the first one includes.
    pub fn add(&mut self, name: &str, text: &str) {
        self.text.push('\n');
        self.parts.push(Part::new(name, self.text.len()));
        self.text.push_str(text);
    }

    /// Takes down what is wrong with an `include`.
    pub fn fault(&mut self, span: Range<usize>, message: String) {
        self.faults.push((span, message));
    }

    /// What is wrong with an `include`, and where.
    #[must_use]
    pub fn faults(&self) -> &[(Range<usize>, String)] {
        &self.faults
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Files and folders that `include` of the first file names, with their places.
    #[must_use]
    pub fn includes(&self) -> Vec<(String, Range<usize>)> {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let Some(DeValue::Array(items)) = table.get_ref().get("include").map(Spanned::get_ref)
        else {
            return Vec::new();
        };
        let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) => Some((text.clone().into_owned(), item.span())),
            _ => None,
        };
        items.iter().filter_map(text).collect()
    }

    fn part(&self, at: usize) -> usize {
        self.parts.partition_point(|part| part.start <= at).max(1) - 1
    }

    fn range_of(&self, part: usize) -> Range<usize> {
        let end = self.parts.get(part + 1).map_or(self.text.len(), |next| next.start - 1);
        self.parts[part].start..end
    }

    /// Name of the file, line and column, both from one.
    #[must_use]
    pub fn place(&self, at: usize) -> (&str, usize, usize) {
        let part = self.part(at);
        let range = self.range_of(part);
        let (line, column) = place(&self.text[range.clone()], at.min(range.end) - range.start);
        (&self.parts[part].name, line, column)
    }

    /// The line of an octet.
    #[must_use]
    pub fn line(&self, at: usize) -> SourceLine {
        let part = self.part(at);
        let file = (part > 0).then(|| Arc::clone(&self.parts[part].name));
        SourceLine { number: self.place(at).1, file, at }
    }

    /// The folder of the file that this place is in.
    #[must_use]
    pub fn folder(&self, at: usize) -> &Path {
        &self.parts[self.part(at)].folder
    }

    /// A path that stands there: a relative one begins at the folder of its file.
    #[must_use]
    pub fn path(&self, at: usize, text: &str) -> PathBuf {
        self.parts[self.part(at)].folder.join(text)
    }

    /// A text for each file, in which everything stands where it stands in the whole: blanks are in front.
    pub(super) fn padded(&self) -> Vec<String> {
        let all = (0..self.parts.len()).map(|part| {
            let range = self.range_of(part);
            format!("{}{}", " ".repeat(range.start), &self.text[range])
        });
        all.collect()
    }
}

impl Part {
    fn new(name: &str, start: usize) -> Self {
        let folder = Path::new(name).parent().map(Path::to_owned).unwrap_or_default();
        Self { name: name.into(), start, folder }
    }
}

/// Where something stands in the configuration, for messages. All lines are equal: what has only moved in its
/// file is the same.
#[derive(Clone, Debug, Default)]
pub struct SourceLine {
    /// From one, in its file.
    pub number: usize,
    /// The file, if it is an included one.
    pub file: Option<Arc<str>>,
    /// The octet, of all the text.
    pub at: usize,
}

impl SourceLine {
    /// With the name of its file, where there is more than one.
    #[must_use]
    pub fn told(&self, source: &Source) -> String {
        if source.parts.len() > 1 { self.full(source) } else { self.to_string() }
    }

    /// With the name of its file in any case.
    #[must_use]
    pub fn full(&self, source: &Source) -> String {
        match &self.file {
            Some(_) => self.to_string(),
            None => format!("{self} of {}", source.parts[0].name),
        }
    }
}

impl PartialEq for SourceLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceLine {}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.number)?;
        self.file.iter().try_for_each(|file| write!(f, " of {file}"))
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
