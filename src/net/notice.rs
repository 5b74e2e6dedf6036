//! Lines for the operator on standard error, each with its time and level. A thread of its own writes
//! them: a pipe that is not emptied holds up neither a core nor the coordinator (exam R04). What
//! finds no room is dropped and counted, and the count is the next line that can be written.

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::json;

use crate::base::clock;
use crate::base::limits::NOTICES;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, message.
    #[default]
    Text,
    /// For collectors: an object a line.
    Json,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Info,
    Warning,
    Error,
}

enum NoticeMessage {
    Line(NoticeLine),
    /// Everything before this is written when the sender is dropped.
    Flush(Sender<()>),
}

struct NoticeLine {
    /// Milliseconds since 1970.
    wall: u64,
    level: Level,
    text: String,
}

static WRITER: OnceLock<Sender<NoticeMessage>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the writing thread, and has panics reported through it. Before that, lines are written by the
/// thread that says them.
pub fn start(format: Format) {
    let (sender, receiver) = bounded(NOTICES);
    let writer = move || write_all(&receiver, format);
    let thread = std::thread::Builder::new().name("notices".to_owned()).spawn(writer);
    if thread.is_ok() && WRITER.set(sender).is_ok() {
        std::panic::set_hook(Box::new(|panic| error(panic)));
    }
}

/// Waits until what was said is written, but not for a reader that does not read.
pub fn end(patience: Duration) {
    let (done, end) = bounded(0);
    if let Some(writer) = WRITER.get()
        && writer.send_timeout(NoticeMessage::Flush(done), patience).is_ok()
    {
        let _ = end.recv_timeout(patience);
    }
}

/// How many lines found no room so far and have not been reported.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// An event that an operator may want to know of.
pub fn note(message: impl Display) {
    say(Level::Info, message.to_string());
}

/// A fault that the program goes on with.
pub fn warn(message: impl Display) {
    say(Level::Warning, message.to_string());
}

/// A fault that ends something.
pub fn error(message: impl Display) {
    say(Level::Error, message.to_string());
}

/// What was found wrong with a configuration, over several lines. Nothing where nothing was found.
pub fn report(text: &str) {
    if !text.is_empty() {
        say(Level::Warning, format!("the configuration:\n{}", text.trim_end()));
    }
}

fn say(level: Level, text: String) {
    let line = NoticeLine { wall: clock::wall(), level, text };
    match WRITER.get() {
        None => write(&line, Format::Text),
        Some(writer) => {
            if writer.try_send(NoticeMessage::Line(line)).is_err() {
                LOST.fetch_add(1, Relaxed);
            }
        }
    }
}

fn write_all(messages: &Receiver<NoticeMessage>, format: Format) {
    for message in messages {
        let line = match message {
            NoticeMessage::Line(line) => line,
            NoticeMessage::Flush(done) => {
                drop(done);
                continue;
            }
        };
        let lost = LOST.swap(0, Relaxed);
        if lost > 0 {
            let text = format!("{lost} messages found no room here: standard error was full");
            write(&NoticeLine { wall: line.wall, level: Level::Warning, text }, format);
        }
        write(&line, format);
    }
}

/// A closed standard error is no problem of ours.
fn write(line: &NoticeLine, format: Format) {
    let _ = std::io::stderr().lock().write_all(form(line, format).as_bytes());
}

fn form(line: &NoticeLine, format: Format) -> String {
    let time = time_of(line.wall);
    let (level, text) = (line.level, &line.text);
    match format {
        Format::Text => format!("{time} {:<7} {text}\n", level.word()),
        Format::Json => {
            format!("{}\n", json!({"time": time, "level": level.word(), "message": text}))
        }
    }
}

fn time_of(wall: u64) -> String {
    let time =
        i64::try_from(wall).ok().and_then(|wall| jiff::Timestamp::from_millisecond(wall).ok());
    time.map_or_else(String::new, |time| format!("{time:.3}"))
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_time_and_a_level() {
        let text = "a \"b\"\nc".to_owned();
        let line = NoticeLine { wall: 1_795_889_523_004, level: Level::Warning, text };
        let expected = "2026-11-28T18:12:03.004Z warning a \"b\"\nc\n";
        assert_eq!(form(&line, Format::Text), expected);
        let expected = "{\"time\":\"2026-11-28T18:12:03.004Z\",\"level\":\"warning\",\
                        \"message\":\"a \\\"b\\\"\\nc\"}\n";
        assert_eq!(form(&line, Format::Json), expected);
    }
}
