//! Which exchanges an operator wants to see: `status>=500 && host=="a"`, read once, held against each record.
//!
//! ```text
//! either     = both *( "||" both )
//! both       = one *( "&&" one )
//! one        = "!" one / "(" either ")" / field operator value
//! operator   = "==" / "!=" / ">=" / "<=" / ">" / "<" / "=~" / "!~"
//! value      = number / word / "text" / 'text' / "null"
//! ```

use regex::Regex;
use serde_json::Value;

/// The fields of a record, as `observe::recorder::Kept::json` names them.
pub const FIELDS: [&str; 26] = [
    "time",
    "request_id",
    "client",
    "method",
    "host",
    "path",
    "version",
    "status",
    "flag",
    "reason",
    "detail",
    "listener",
    "route",
    "cluster",
    "endpoint",
    "choice",
    "attempts",
    "reused",
    "cache",
    "duration_ms",
    "upstream_ms",
    "connect_ms",
    "queue_ms",
    "upstream_version",
    "bytes_in",
    "bytes_out",
];

/// Those of them that are numbers.
const NUMBERS: [&str; 8] = [
    "status",
    "attempts",
    "duration_ms",
    "upstream_ms",
    "connect_ms",
    "queue_ms",
    "bytes_in",
    "bytes_out",
];

/// How deep conditions may be nested.
const DEPTH: usize = 32;

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Every exchange.
    Every,
    Either(Vec<Self>),
    Both(Vec<Self>),
    Not(Box<Self>),
    Field {
        name: &'static str,
        test: Test,
    },
}

/// What a field is held against.
#[derive(Clone, Debug)]
pub enum Test {
    /// Less, equal, greater: which of these hold.
    Order([bool; 3], Wanted),
    /// Whether it matches.
    Like(bool, Regex),
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub enum Wanted {
    Null,
    Number(f64),
    Text(String),
}

impl Condition {
    /// Reads a condition; an empty one is every exchange.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        reader.blanks();
        if reader.rest().is_empty() {
            return Ok(Self::Every);
        }
        let condition = reader.either()?;
        if reader.rest().is_empty() {
            Ok(condition)
        } else {
            Err(reader.fault("nothing more, \"&&\" or \"||\""))
        }
    }

    /// Whether a record is one of those.
    #[must_use]
    pub fn takes(&self, record: &Value) -> bool {
        match self {
            Self::Every => true,
            Self::Either(all) => all.iter().any(|one| one.takes(record)),
            Self::Both(all) => all.iter().all(|one| one.takes(record)),
            Self::Not(one) => !one.takes(record),
            Self::Field { name, test } => test.holds(&record[*name]),
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match self {
            Self::Like(wanted, pattern) => {
                value.as_str().is_some_and(|text| pattern.is_match(text)) == *wanted
            }
            Self::Order([less, equal, greater], wanted) => {
                let order = match (wanted, value) {
                    (Wanted::Null, value) => Some(if value.is_null() { Equal } else { Greater }),
                    (Wanted::Number(wanted), value) => {
                        value.as_f64().and_then(|value| value.partial_cmp(wanted))
                    }
                    (Wanted::Text(wanted), Value::String(text)) => Some(text.as_str().cmp(wanted)),
                    (Wanted::Text(wanted), Value::Bool(is)) => {
                        Some(is.to_string().as_str().cmp(wanted))
                    }
                    _ => None,
                };
                match order {
                    Some(Less) => *less,
                    Some(Equal) => *equal,
                    Some(Greater) => *greater,
                    // What is not there, or of another kind, differs.
                    None => *less && *greater && !*equal,
                }
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn takes(&mut self, word: &str) -> bool {
        let takes = self.rest().starts_with(word);
        if takes {
            self.at += word.len();
            self.blanks();
        }
        takes
    }

    fn fault(&self, wanted: &str) -> String {
        let rest: String = self.rest().chars().take(20).collect();
        let found = if rest.is_empty() { "the end".to_owned() } else { format!("\"{rest}\"") };
        let column = self.text[..self.at].chars().count() + 1;
        format!(
            "column {column}: expected {wanted}, found {found}; write it like status>=500 && host==\"a.example\""
        )
    }

    fn either(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.both()?];
        while self.takes("||") {
            all.push(self.both()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Either(all) })
    }

    fn both(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.one()?];
        while self.takes("&&") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Both(all) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("conditions are nested in at most {DEPTH} others"));
        }
        let one = if self.takes("!") {
            Condition::Not(Box::new(self.one()?))
        } else if self.takes("(") {
            let inner = self.either()?;
            if !self.takes(")") {
                return Err(self.fault("\")\""));
            }
            inner
        } else {
            self.field()?
        };
        self.depth -= 1;
        Ok(one)
    }

    fn field(&mut self) -> Result<Condition, String> {
        let end = self.rest().find(|one: char| !one.is_ascii_alphanumeric() && one != '_');
        let word = &self.rest()[..end.unwrap_or_else(|| self.rest().len())];
        let Some(name) = FIELDS.iter().find(|one| **one == word) else {
            return Err(self.fault(&format!("one of {}", FIELDS.join(", "))));
        };
        self.at += word.len();
        self.blanks();
        for (operator, holds) in [
            ("==", [false, true, false]),
            ("!=", [true, false, true]),
            (">=", [false, true, true]),
            ("<=", [true, true, false]),
            (">", [false, false, true]),
            ("<", [true, false, false]),
        ] {
            if self.takes(operator) {
                let begin = self.at;
                let value = self.value()?;
                if NUMBERS.contains(name) && matches!(value, Wanted::Text(_)) {
                    self.at = begin;
                    return Err(self.fault(&format!("a number for {name}")));
                }
                let test = Test::Order(holds, value);
                return Ok(Condition::Field { name, test });
            }
        }
        for (operator, wanted) in [("=~", true), ("!~", false)] {
            if self.takes(operator) {
                let begin = self.at;
                let Wanted::Text(pattern) = self.value()? else {
                    self.at = begin;
                    return Err(self.fault("an expression in quotes"));
                };
                let pattern = Regex::new(&pattern)
                    .map_err(|error| format!("no regular expression: {error}"))?;
                return Ok(Condition::Field { name, test: Test::Like(wanted, pattern) });
            }
        }
        Err(self.fault("==, !=, >=, <=, >, <, =~ or !~"))
    }

    fn value(&mut self) -> Result<Wanted, String> {
        if let Some(quote) = self.rest().chars().next().filter(|one| matches!(one, '"' | '\'')) {
            let inner = &self.rest()[1..];
            let Some(len) = inner.find(quote) else { return Err(self.fault("a closing quote")) };
            self.at += len + 2;
            self.blanks();
            return Ok(Wanted::Text(inner[..len].to_owned()));
        }
        let is_plain = |one: char| one.is_alphanumeric() || "-_./:*".contains(one);
        let end = self.rest().find(|one| !is_plain(one)).unwrap_or_else(|| self.rest().len());
        let word = &self.rest()[..end];
        if word.is_empty() {
            return Err(self.fault("a value"));
        }
        self.at += end;
        self.blanks();
        Ok(match (word, word.parse()) {
            ("null", _) => Wanted::Null,
            (_, Ok(number)) => Wanted::Number(number),
            (word, Err(_)) => Wanted::Text(word.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_are_picked() {
        let record = json!({
            "status": 502, "host": "a.example", "path": "/x/1", "duration_ms": 12.5, "route": null, "reused": true,
        });
        for (text, takes) in [
            ("", true),
            ("status==502", true),
            ("status >= 500 && host == \"a.example\"", true),
            ("status>=500 && host==b || path =~ \"^/x/[0-9]+$\"", true),
            ("!(status>=500)", false),
            ("! status<500", true),
            ("duration_ms > 12 && duration_ms<13", true),
            ("route==null", true),
            ("route!=null", false),
            ("route != shop", true),
            ("route == shop || route > a", false),
            ("host!='a.example'", false),
            ("path !~ '/y'", true),
            ("reused == true", true),
            ("status != 503", true),
        ] {
            let condition = Condition::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(condition.takes(&record), takes, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_says_where() {
        for (text, says) in [
            ("stauts==1", "column 1"),
            ("status=1", "column 7"),
            ("status==", "the end"),
            ("status==1 host==a", "column 11"),
            ("(status==1", "\")\""),
            ("host==\"a", "closing quote"),
            ("path=~\"(\"", "regular expression"),
            ("path=~5", "quotes"),
            (&"(".repeat(10_000), "nested"),
            (&"!".repeat(10_000), "nested"),
        ] {
            let why = Condition::parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn numbers_are_held_against_numbers() {
        for bad in ["status==\"200\"", "status>abc", "duration_ms>\"abc\"", "attempts!=two"] {
            let why = Condition::parse(bad).unwrap_err();
            assert!(why.contains("a number"), "{bad}: {why}");
        }
        assert!(Condition::parse("flag!=null && upstream_ms>1.5").is_ok());
    }
}
