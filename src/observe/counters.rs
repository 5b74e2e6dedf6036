//! Plain counters of one shard. No atomics: the shard owns them and reports a copy.

/// Declares the counters once; sums are made of the declaration.
macro_rules! counters {
    ($(#[doc = $doc:expr] $name:ident,)*) => {
        /// What a shard counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Counters {
            /// Adds another shard's.
            pub const fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Client connections let in.
    connections,
    /// Client connections turned away by a limit.
    refused,
    /// TLS handshakes of clients that were completed.
    handshakes,
    /// TLS handshakes of clients that failed.
    handshake_failures,
    /// Connections to TLS listeners that ended without a word: checks of balancers.
    silent,
    /// Connections without the PROXY header that they should begin with.
    no_proxy_header,
    /// HTTP/2 connections that were ended for what they made us do.
    calmed,
    /// HTTP/2 streams and connections that were ended because what came was not HTTP/2.
    malformed,
    /// Exchanges that ended, in whatever way.
    exchanges,
    /// Exchanges that ended in an error of ours or of the upstream.
    failures,
    /// Connections to endpoints that were dialled.
    dials,
    /// Connections to endpoints that could not be opened.
    dial_failures,
    /// Requests that were sent again.
    retries,
    /// Requests that were sent to a second endpoint because the first was slow.
    hedges,
    /// Exchanges on a pooled connection.
    reuses,
    /// Connection tasks that panicked.
    panics,
    /// Failed accepts, EMFILE and its kin.
    accept_errors,
    /// Access log entries that were dropped because the writer was behind.
    log_drops,
}
