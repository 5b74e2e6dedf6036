//! Certificates, keys and the authorities that we trust, of one moment: replaced as a whole when files change.

use std::sync::Arc;

use crate::base::id::{ClusterId, ListenerId};
use crate::net::tls::local::Authority;
use crate::net::tls::server::{Tickets, TlsServer};
use crate::net::tls::trust::TlsClient;

/// What listeners show and what clusters believe.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    pub listeners: Vec<Option<Arc<TlsServer>>>,
    pub clusters: Vec<Option<TlsClient>>,
    /// By listener: sessions outlive the certificates. With them a digest of whose certificates were
    /// believed when they were made.
    pub tickets: Vec<Option<(Tickets, u64)>>,
    /// The local authority, if there is no place where it is kept.
    pub authority: Option<Arc<Authority>>,
}

impl Secrets {
    /// TLS of a listener, if it speaks it.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<TlsServer>> {
        self.listeners.get(usize::from(id.0))?.as_ref()
    }

    /// TLS to a cluster, if it wants it.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&TlsClient> {
        self.clusters.get(usize::from(id.0))?.as_ref()
    }
}
