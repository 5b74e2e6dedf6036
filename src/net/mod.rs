//! Floor 4: the only room with sockets, the ring, file descriptors, mailboxes and `unsafe`. The
//! rules in `README.md` are kept here so that no other room needs to know them.

pub mod admin;
pub mod alarm;
pub mod backlog;
pub mod buffer;
pub mod connect;
pub mod deadline;
pub mod disk;
pub mod dns;
pub mod guard;
pub mod handover;
pub mod inbound;
pub mod listener;
pub mod log_file;
pub mod mailbox;
pub mod memory;
pub mod notice;
pub mod notifier;
pub mod privileges;
pub mod probe;
pub mod runtime;
pub mod signal;
pub mod size;
pub mod socket;
pub mod span_export;
pub mod store;
pub mod sweep;
pub mod sys;
pub mod tls;
pub mod transport;
pub mod wakers;
