//! An access log of a test's own, for the rows of group R that say what stands in it.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::proxy::temporary;
use crate::support::until;

/// A log file. It goes when this is dropped.
pub struct Log {
    path: PathBuf,
}

impl Log {
    pub fn new() -> Self {
        Self { path: temporary("log") }
    }

    /// The configuration's table for it.
    pub fn table(&self) -> String {
        format!("[access_log]\npath = \"{}\"\n", self.path.display())
    }

    /// The same, in the combined format.
    pub fn combined(&self) -> String {
        format!("{}format = \"combined\"\n", self.table())
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Every whole line so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The first line with this value; waits for it.
    pub fn line(&self, key: &str, value: &str) -> Value {
        let mut found = None;
        until(&format!("a log line with {key} = {value}"), || {
            found = self.lines().into_iter().find(|line| line[key] == value);
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
