//! The access log's own thread: takes batches from the shards, formats them, writes them. A full
//! disk or a closed pipe loses lines, not requests (exam P10).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::notice;
use crate::base::clock::{self, Moment, monotonic};
use crate::base::limits::{LOG_BATCHES, REOPENED_EVERY};
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
/// disconnected then. `own` is shown a file that was opened.
///
/// # Errors
/// The file cannot be opened.
pub fn start(log: &AccessLog, own: &dyn Fn(&File)) -> io::Result<(LogSender, Receiver<()>)> {
    let output = open(&log.to, own)?;
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

fn open(to: &LogTarget, own: &dyn Fn(&File)) -> io::Result<LogOutput> {
    Ok(match to {
        LogTarget::Standard => LogOutput::Stream(Box::new(io::stdout())),
        LogTarget::File(path) => {
            let file: File = OpenOptions::new().create(true).append(true).open(path)?;
            own(&file);
            LogOutput::Stream(Box::new(file))
        }
        LogTarget::Syslog | LogTarget::SyslogAt(_) | LogTarget::Journal => {
            let socket = LogSocket::open(to)?;
            LogOutput::Datagrams(Datagrams { socket, to: to.clone(), opened: monotonic() })
        }
    })
}

/// Where lines go.
enum LogOutput {
    Stream(Box<dyn Write + Send>),
    Datagrams(Datagrams),
}

/// What was lost of a text: how many lines, and why.
type LostLines = Option<(u64, io::Error)>;

impl LogOutput {
    fn write(&mut self, text: &[u8]) -> LostLines {
        let lines = || text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        match self {
            Self::Stream(stream) => {
                let written = stream.write_all(text).and_then(|()| stream.flush());
                written.err().map(|error| (lines().count() as u64, error))
            }
            Self::Datagrams(datagrams) => {
                let begin = datagrams.begin();
                let mut lost: LostLines = None;
                for line in lines() {
                    if let Err(error) = datagrams.send(&[&begin, line].concat()) {
                        lost = Some((lost.map_or(0, |(count, _)| count) + 1, error));
                    }
                }
                lost
            }
        }
    }
}

/// A line a message.
struct Datagrams {
    socket: LogSocket,
    to: LogTarget,
    opened: Moment,
}

enum LogSocket {
    Local(UnixDatagram),
    Remote(UdpSocket),
}

impl LogSocket {
    fn open(to: &LogTarget) -> io::Result<Self> {
        let LogTarget::SyslogAt(address) = to else {
            let path = if *to == LogTarget::Journal { JOURNAL } else { SYSLOG };
            return syslog(Path::new(path)).map(Self::Local);
        };
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(Self::Remote(socket))
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Local(socket) => socket.send(message),
            Self::Remote(socket) => socket.send(message),
        }
        .map(drop)
    }
}

impl Datagrams {
    /// What stands before a line: in the form of RFC 3164 that local daemons take, in that of RFC 5424, or the
    /// journal's own.
    fn begin(&self) -> Vec<u8> {
        let pid = std::process::id();
        match self.to {
            LogTarget::Journal => b"PRIORITY=6\nSYSLOG_IDENTIFIER=millrace\nMESSAGE=".to_vec(),
            LogTarget::SyslogAt(_) => {
                let time = now("%Y-%m-%dT%H:%M:%SZ");
                format!("{PRIORITY}1 {time} - millrace {pid} access - ").into_bytes()
            }
            _ => format!("{PRIORITY}{} millrace[{pid}]: ", now("%b %e %H:%M:%S")).into_bytes(),
        }
    }

    /// A daemon that was started again has another socket at the same place; what UDP says of the datagram before says
    /// nothing of this one.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let Err(error) = self.socket.send(message) else { return Ok(()) };
        let is_gone = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotConnected
                | io::ErrorKind::ConnectionReset
        );
        if is_gone && matches!(self.socket, LogSocket::Local(_)) {
            if monotonic().since(self.opened) < REOPENED_EVERY {
                return Err(error);
            }
            self.opened = monotonic();
            self.socket = LogSocket::open(&self.to)?;
        }
        if is_gone { self.socket.send(message) } else { Err(error) }
    }
}

fn now(form: &str) -> String {
    format::timestamp(clock::wall(), form)
}

/// Lines that could not be written, of all logs so far.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines could not be written so far.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

fn run(messages: &Receiver<LogMessage>, mut output: LogOutput, log: &AccessLog) {
    let mut text = Vec::new();
    let mut is_failing = false;
    for message in messages {
        match message {
            LogMessage::End => return,
            LogMessage::Reopen => match open(&log.to, &|_| ()) {
                Ok(new) => output = new,
                Err(error) => notice::warn(format_args!(
                    "access log {}: it cannot be opened anew, and goes on where it is: {error}",
                    log.to
                )),
            },
            LogMessage::Write(batch, config) => {
                text.clear();
                format::lines(&batch, &config, &log.format, &mut text);
                let lost = output.write(&text);
                if let Some((count, error)) = &lost {
                    LOST.fetch_add(*count, Ordering::Relaxed);
                    if !is_failing {
                        notice::warn(format_args!(
                            "access log: {error}; lines are lost until it works again"
                        ));
                    }
                }
                is_failing = lost.is_some();
            }
        }
    }
}
