//! Signals, as messages: a thread waits for them; no handler runs asynchronously.

#![expect(unsafe_code, reason = "sigmask and sigwait")]

use std::mem::zeroed;

use crossbeam_channel::Receiver;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and exit.
    Terminate,
    /// SIGHUP: read the configuration again, and open the access log anew.
    Reload,
    /// SIGUSR1: open the access log anew.
    Reopen,
    /// SIGUSR2: start the program anew, and hand the listeners over to it.
    Upgrade,
}

/// Blocks the signals in this thread and all that it starts, and waits for them in one of its own.
/// Must be called before any other thread is started.
#[must_use]
pub fn listen() -> Receiver<Signal> {
    let (sender, receiver) = crossbeam_channel::bounded(16);
    let set = block();
    let waiter = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            let mut number = 0;
            // SAFETY: both pointers are good; the set was made by sigemptyset and sigaddset.
            let result = unsafe { libc::sigwait(&raw const set, &raw mut number) };
            let signal = match number {
                libc::SIGHUP => Signal::Reload,
                libc::SIGUSR1 => Signal::Reopen,
                libc::SIGUSR2 => Signal::Upgrade,
                _ => Signal::Terminate,
            };
            if result == 0 && sender.send(signal).is_err() {
                return;
            }
        }
    });
    if waiter.is_err() {
        // A channel without a sender would read as a signal.
        super::notice::warn("no thread for signals: only SIGKILL will end this process");
        return crossbeam_channel::never();
    }
    receiver
}

fn block() -> libc::sigset_t {
    // SAFETY: all zero is a valid place for sigemptyset to fill.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: the pointer is good.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: the pointer is good.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the pointer is good; the old mask is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    set
}
