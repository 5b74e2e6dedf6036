//! The access log's own thread: takes batches from the shards, formats them, writes them. A full
//! disk or a closed pipe loses lines, not requests (exam P10).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::notice;
use crate::base::clock;
use crate::base::limits::LOG_BATCHES;
use crate::config::access_log::{AccessLog, LogTarget};
use crate::config::model::Config;
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
    let output = open(&log.to)?;
    let log = log.clone();
    let (sender, receiver) = bounded(LOG_BATCHES);
    let (done, end) = bounded(1);
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        run(&receiver, output, &log);
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
pub fn probe(to: &LogTarget) -> io::Result<()> {
    let path = match to {
        LogTarget::Standard | LogTarget::SyslogAt(_) => return Ok(()),
        LogTarget::Syslog => return syslog(Path::new(SYSLOG)).map(drop),
        LogTarget::Journal => return syslog(Path::new(JOURNAL)).map(drop),
        LogTarget::File(path) => path.as_path(),
    };
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(|_| ()),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = std::fs::metadata(folder.unwrap_or_else(|| Path::new(".")))?;
    if found.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// The machine's syslog, and systemd's journal with its own protocol.
const SYSLOG: &str = "/dev/log";
const JOURNAL: &str = "/run/systemd/journal/socket";

/// "local0", "info".
const PRIORITY: &str = "<134>";

fn syslog(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn open(to: &LogTarget) -> io::Result<LogOutput> {
    Ok(match to {
        LogTarget::Standard => LogOutput::Stream(Box::new(io::stdout())),
        LogTarget::File(path) => {
            let file: File = OpenOptions::new().create(true).append(true).open(path)?;
            LogOutput::Stream(Box::new(file))
        }
        LogTarget::Syslog => LogOutput::Syslog(syslog(Path::new(SYSLOG))?),
        LogTarget::Journal => LogOutput::Journal(syslog(Path::new(JOURNAL))?),
        LogTarget::SyslogAt(address) => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            LogOutput::SyslogAt(socket)
        }
    })
}

/// Where lines go.
enum LogOutput {
    Stream(Box<dyn Write + Send>),
    /// A line a message, in the form of RFC 3164 that local daemons take.
    Syslog(UnixDatagram),
    /// The same in that of RFC 5424.
    SyslogAt(UdpSocket),
    Journal(UnixDatagram),
}

impl LogOutput {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let lines = || text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let pid = std::process::id();
        match self {
            Self::Stream(stream) => stream.write_all(text).and_then(|()| stream.flush()),
            Self::Syslog(socket) => {
                let begin = format!("{PRIORITY}{} millrace[{pid}]: ", now("%b %e %H:%M:%S"));
                lines().try_for_each(|line| send(|all| socket.send(all), begin.as_bytes(), line))
            }
            Self::SyslogAt(socket) => {
                let time = now("%Y-%m-%dT%H:%M:%SZ");
                let begin = format!("{PRIORITY}1 {time} - millrace {pid} access - ");
                lines().try_for_each(|line| send(|all| socket.send(all), begin.as_bytes(), line))
            }
            Self::Journal(socket) => {
                let begin = b"PRIORITY=6\nSYSLOG_IDENTIFIER=millrace\nMESSAGE=";
                lines().try_for_each(|line| send(|all| socket.send(all), begin, line))
            }
        }
    }
}

fn send(
    mut socket: impl FnMut(&[u8]) -> io::Result<usize>,
    begin: &[u8],
    line: &[u8],
) -> io::Result<()> {
    socket(&[begin, line].concat()).map(drop)
}

fn now(form: &str) -> String {
    format::timestamp(clock::wall(), form)
}

fn run(messages: &Receiver<LogMessage>, mut output: LogOutput, log: &AccessLog) {
    let mut text = Vec::new();
    let mut is_failing = false;
    for message in messages {
        let result = match message {
            LogMessage::End => return,
            LogMessage::Reopen => open(&log.to).map(|new| output = new),
            LogMessage::Write(batch, config) => {
                text.clear();
                format::lines(&batch, &config, &log.format, &mut text);
                output.write(&text)
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
