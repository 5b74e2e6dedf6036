//! The access log's own thread: takes batches from the shards, formats them, writes them. A full
//! disk or a closed pipe loses lines, not requests (exam P10).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::notice;
use crate::base::limits::LOG_BATCHES;
use crate::config::model::{AccessLog, Config, LogFormat};
use crate::observe::format;
use crate::observe::record::Batch;

/// What the log's thread is told.
#[derive(Debug)]
pub enum LogMessage {
    /// Write these, of shards with this configuration.
    Write(Batch, Arc<Config>),
    /// The file was moved away: open it anew.
    Reopen,
    /// That was all. A shard's own sender may outlive the log, because the runtime does not drop its
    /// tasks.
    End,
}

/// Where shards hand their batches over.
pub type LogSender = Sender<LogMessage>;

/// Opens the log and starts its thread, which ends when it is told to; the receiver is
/// disconnected then.
///
/// # Errors
/// The file cannot be opened.
pub fn start(log: &AccessLog) -> io::Result<(LogSender, Receiver<()>)> {
    let output = open(&log.path)?;
    let (format, path) = (log.format, log.path.clone());
    let (sender, receiver) = bounded(LOG_BATCHES);
    let (done, end) = bounded(1);
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        run(&receiver, output, &path, format);
        drop(done);
    })?;
    Ok((sender, end))
}

/// Ends the log: waits until everything is written, but not for a reader that does not read.
pub fn end(log: &LogSender, end: &Receiver<()>, patience: Duration) {
    let is_told = log.send_timeout(LogMessage::End, patience).is_ok();
    let is_done = is_told && end.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
    if !is_done {
        notice::warn("access log: its reader does not read; the last lines are lost");
    }
}

/// Whether a log could be opened there, found out without making one.
///
/// # Errors
/// What stands in the way.
pub fn probe(path: &Path) -> io::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(|_| ()),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = std::fs::metadata(folder.unwrap_or_else(|| Path::new(".")))?;
    if found.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file: File = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(Box::new(file))
}

fn run(
    messages: &Receiver<LogMessage>,
    mut output: Box<dyn Write + Send>,
    path: &Path,
    how: LogFormat,
) {
    let mut text = Vec::new();
    let mut is_failing = false;
    for message in messages {
        let result = match message {
            LogMessage::End => return,
            LogMessage::Reopen => open(path).map(|file| output = file),
            LogMessage::Write(batch, config) => {
                text.clear();
                format::lines(&batch, &config, how, &mut text);
                output.write_all(&text).and_then(|()| output.flush())
            }
        };
        if let Err(error) = &result
            && !is_failing
        {
            notice::warn(format_args!("access log: {error}; lines are lost until it works again"));
        }
        is_failing = result.is_err();
    }
}
