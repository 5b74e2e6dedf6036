//! The text of a configuration: a file, and behind it those that it includes. Places count through all of them, and
//! know whose they are.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, Shows, place};

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

    /// Adds an included table to what is there. Lists of tables become longer; any other key stands in one file alone.
    pub(super) fn merge<'a>(
        &self,
        all: &mut DeTable<'a>,
        included: DeTable<'a>,
        problems: &mut Problems,
    ) {
        for (key, value) in included {
            if key.get_ref() == "include" {
                problems.error(key.span(), "a file that is included includes no others");
                continue;
            }
            let span = key.span();
            match (all.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value.into_inner()) {
                (Some(DeValue::Array(list)), DeValue::Array(more)) => {
                    more.into_iter().for_each(|one| list.push(one));
                }
                (None, value) => drop(all.insert(key, Spanned::new(span, value))),
                (Some(_), _) => {
                    let name = key.get_ref().clone();
                    let earlier = all.keys().find(|one| *one.get_ref() == name);
                    let line = earlier.map(|one| self.line(one.span().start));
                    let line = line.map_or_else(String::new, |line| line.full(self));
                    problems.error(
                        span,
                        format!("\"{name}\" stands on {line} already: a table stands in one file"),
                    );
                }
            }
        }
    }

    pub(super) fn report(&self, problems: &mut Problems) {
        for (span, message) in &self.faults {
            problems.error_hidden(span.clone(), message.clone(), Shows::Value);
        }
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
    fn full(&self, source: &Source) -> String {
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

/// What an environment says of a variable; `None` if it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Puts the environment's words in the place of `${NAME}` and `${NAME:-default}` in every string; `$${` is `${`.
pub(super) fn substitute(
    table: &mut DeTable<'_>,
    environment: &Environment<'_>,
    problems: &mut Problems,
) {
    for (_, value) in table.iter_mut() {
        substitute_one(value, environment, problems);
    }
}

fn substitute_one(
    value: &mut Spanned<DeValue<'_>>,
    environment: &Environment<'_>,
    problems: &mut Problems,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match replaced(text, environment) {
            Ok(new) => *text = new.into(),
            Err(name) => problems.error_with_help(
                span,
                format!("the environment has no variable {name}"),
                format!("set it, or write ${{{name}:-…}} with what holds without it"),
            ),
        },
        DeValue::Array(items) => {
            items.iter_mut().for_each(|one| substitute_one(one, environment, problems));
        }
        DeValue::Table(table) => substitute(table, environment, problems),
        _ => {}
    }
}

/// # Errors
/// The name of a variable that is not set.
fn replaced(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &found[2..];
            continue;
        }
        out.push_str(before);
        match reference(&found[2..]) {
            Some((name, default, after)) => {
                let word = environment(name).filter(|word| !word.is_empty() || default.is_none());
                let word = word.or_else(|| default.map(str::to_owned));
                out.push_str(&word.ok_or_else(|| name.to_owned())?);
                rest = after;
            }
            None => {
                out.push_str("${");
                rest = &found[2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Name, default, and what stands behind; `None` if it is no reference: an expression may have `${` too.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inner, after) = text.split_once('}')?;
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, default, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower_source;

    const MAIN: &str = "include = [\"x\"]\n[[listener]]\naddress = \"127.0.0.1:${PORT:-8080}\"\n[[route]]\ncluster = \"app\"\n";

    fn environment(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/a".to_owned())
    }

    #[test]
    fn the_environment_is_read() {
        for (text, wanted) in [
            ("a ${HOME} b", Ok("a /home/a b")),
            ("${HOME}${HOME:-x}", Ok("/home/a/home/a")),
            ("${NONE:-x}-${NONE:-}", Ok("x-")),
            ("$${HOME}", Ok("${HOME}")),
            ("~^/a${2}$", Ok("~^/a${2}$")),
            ("${", Ok("${")),
            ("${NONE}", Err("NONE")),
        ] {
            let told = replaced(text, &environment);
            assert_eq!(told.as_deref().map_err(String::as_str), wanted, "{text}");
        }
    }

    #[test]
    fn files_are_one_and_problems_name_their_own() {
        let mut source = Source::new("etc/main.toml", MAIN);
        source.add(
            "etc/conf.d/a.toml",
            "[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"10.0.0.1:80\"\n",
        );
        source.add("etc/conf.d/b.toml", "[[route]]\nhost = \"b\"\ncluster = \"app\"\n");
        let (config, problems) = lower_source(&source, &environment);
        let config = config.unwrap_or_else(|| panic!("{}", problems.render_all(&source)));
        assert_eq!((config.clusters.len(), config.routes.len()), (1, 2));
        assert_eq!(config.listeners[0].address.port(), 8080);
        assert_eq!(config.routes[1].line.to_string(), "line 1 of etc/conf.d/b.toml");
        source.add(
            "etc/conf.d/c.toml",
            "include = [\"y\"]\n[[route]]\nhots = \"b\"\ncluster = \"app\"\n[server]\n",
        );
        source.add("etc/conf.d/d.toml", "\n[server]\ncores = 1\n[x\n");
        source.add("etc/conf.d/e.toml", "[[cluster.endpoint]]\naddress = \"10.0.0.1:80\"\n");
        let (config, problems) = lower_source(&source, &environment);
        let told = problems.render_all(&source);
        assert!(config.is_none());
        for part in [
            "conf.d/c.toml:1:1",
            "includes no others",
            "c.toml:3:1",
            "3 | hots",
            "d.toml:2:2",
            "stands on line 5 of etc/conf.d/c.toml",
            "d.toml:4",
            "e.toml:1:3",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
