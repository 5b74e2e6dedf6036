//! Lines for the operator on standard error, each with its time and level. A thread of its own writes
//! them: a pipe that is not emptied holds up neither a core nor the coordinator (exam R04). What
//! finds no room is dropped and counted, and the count is the next line that can be written.

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::json;

use crate::base::clock;
use crate::base::limits::NOTICES;
use crate::config::model::{LogLevel, LogShape};

enum NoticeMessage {
    Line(NoticeLine),
    /// Everything before this is written when the sender is dropped.
    Flush(Sender<()>),
}

struct NoticeLine {
    /// Milliseconds since 1970.
    wall: u64,
    level: LogLevel,
    text: String,
}

static WRITER: OnceLock<Sender<NoticeMessage>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);
static IS_JSON: AtomicBool = AtomicBool::new(false);
static LEAST: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

/// Starts the writing thread, and has panics reported through it. Before that, lines are written by the
/// thread that says them.
pub fn start() {
    let (sender, receiver) = bounded(NOTICES);
    let writer = move || write_all(&receiver);
    let thread = std::thread::Builder::new().name("notices".to_owned()).spawn(writer);
    if thread.is_ok() && WRITER.set(sender).is_ok() {
        std::panic::set_hook(Box::new(|panic| error(panic)));
    }
}

/// How lines look from now on, and which are left out.
pub fn shape(format: LogShape, least: LogLevel) {
    IS_JSON.store(format == LogShape::Json, Relaxed);
    LEAST.store(least as u8, Relaxed);
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
    say(LogLevel::Info, message.to_string());
}

/// A fault that the program goes on with.
pub fn warn(message: impl Display) {
    say(LogLevel::Warning, message.to_string());
}

/// A fault that ends something.
pub fn error(message: impl Display) {
    say(LogLevel::Error, message.to_string());
}

/// What was found wrong with a configuration, over several lines. Nothing where nothing was found.
pub fn report(text: &str) {
    if !text.is_empty() {
        say(LogLevel::Warning, format!("the configuration:\n{}", text.trim_end()));
    }
}

fn say(level: LogLevel, text: String) {
    if (level as u8) < LEAST.load(Relaxed) {
        return;
    }
    let line = NoticeLine { wall: clock::wall(), level, text };
    match WRITER.get() {
        None => write(&line),
        Some(writer) => {
            if writer.try_send(NoticeMessage::Line(line)).is_err() {
                LOST.fetch_add(1, Relaxed);
            }
        }
    }
}

fn write_all(messages: &Receiver<NoticeMessage>) {
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
            write(&NoticeLine { wall: line.wall, level: LogLevel::Warning, text });
        }
        write(&line);
    }
}

/// A closed standard error is no problem of ours.
fn write(line: &NoticeLine) {
    let format = if IS_JSON.load(Relaxed) { LogShape::Json } else { LogShape::Text };
    let _ = std::io::stderr().lock().write_all(form(line, format).as_bytes());
}

fn form(line: &NoticeLine, format: LogShape) -> String {
    let time = time_of(line.wall);
    let (level, text) = (line.level, &line.text);
    match format {
        LogShape::Text => format!("{time} {:<7} {text}\n", level.word()),
        LogShape::Json => {
            format!("{}\n", json!({"time": time, "level": level.word(), "message": text}))
        }
    }
}

fn time_of(wall: u64) -> String {
    let time =
        i64::try_from(wall).ok().and_then(|wall| jiff::Timestamp::from_millisecond(wall).ok());
    time.map_or_else(String::new, |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_time_and_a_level() {
        let text = "a \"b\"\nc".to_owned();
        let line = NoticeLine { wall: 1_795_889_523_004, level: LogLevel::Warning, text };
        let expected = "2026-11-28T18:12:03.004Z warning a \"b\"\nc\n";
        assert_eq!(form(&line, LogShape::Text), expected);
        let expected = "{\"time\":\"2026-11-28T18:12:03.004Z\",\"level\":\"warning\",\
                        \"message\":\"a \\\"b\\\"\\nc\"}\n";
        assert_eq!(form(&line, LogShape::Json), expected);
    }
}
