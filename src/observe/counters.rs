//! Plain counters of one shard. No atomics: the shard owns them and reports a copy.

/// What a shard counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Client connections let in.
    pub connections: u64,
    /// Client connections turned away by a limit.
    pub refused: u64,
    /// TLS handshakes of clients that were completed.
    pub handshakes: u64,
    /// TLS handshakes of clients that failed.
    pub handshake_failures: u64,
    /// HTTP/2 connections that were ended for what they made us do.
    pub calmed: u64,
    /// HTTP/2 streams and connections that were ended because what came was not HTTP/2.
    pub malformed: u64,
    /// Exchanges that ended, in whatever way.
    pub exchanges: u64,
    /// Exchanges that ended in an error of ours or of the upstream.
    pub failures: u64,
    /// Connections to endpoints that were dialled.
    pub dials: u64,
    /// Connections to endpoints that could not be opened.
    pub dial_failures: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that were sent to a second endpoint because the first was slow.
    pub hedges: u64,
    /// Exchanges on a pooled connection.
    pub reuses: u64,
    /// Connection tasks that panicked.
    pub panics: u64,
    /// Failed accepts, EMFILE and its kin.
    pub accept_errors: u64,
    /// Access log entries that were dropped because the writer was behind.
    pub log_drops: u64,
}

impl Counters {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.handshakes += other.handshakes;
        self.handshake_failures += other.handshake_failures;
        self.calmed += other.calmed;
        self.malformed += other.malformed;
        self.exchanges += other.exchanges;
        self.failures += other.failures;
        self.dials += other.dials;
        self.dial_failures += other.dial_failures;
        self.retries += other.retries;
        self.hedges += other.hedges;
        self.reuses += other.reuses;
        self.panics += other.panics;
        self.accept_errors += other.accept_errors;
        self.log_drops += other.log_drops;
    }
}
