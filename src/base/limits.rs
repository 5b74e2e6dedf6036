//! Every hard bound of the program, with assertions between them. What a user may set lives in
//! `config::model`; its upper ends come from here.

use std::time::Duration;

/// Tiny pooled buffer: what a first read for a client that is slow to take its answers fills.
pub const BUFFER_TINY: usize = 2 * 1024;
/// Small pooled buffer: request heads, most response heads, most bodies.
pub const BUFFER_SMALL: usize = 16 * 1024;
/// Medium pooled buffer: long heads, bodies that keep filling the small one.
pub const BUFFER_MEDIUM: usize = 64 * 1024;
/// Large pooled buffer: bulk bodies. Reads grow up to here.
pub const BUFFER_LARGE: usize = 256 * 1024;
/// Bytes kept free in front of a body's bytes, for a chunk-size line.
pub const BUFFER_HEADROOM: usize = 24;
/// Bytes kept free behind a body's bytes, for the end of a chunk and the last chunk.
pub const BUFFER_TAILROOM: usize = 16;
/// Idle buffers a shard keeps of each size.
pub const BUFFERS_KEPT: [usize; 4] = [1024, 1024, 64, 16];
/// Octets of answers that an HTTP/2 connection holds while its client does not take them (exam R03):
/// with `H2_FLUSH` twice and a sealed batch of it, 512 KiB.
pub const BACKLOG_MAX: usize = 320 * 1024;
/// Of these, what the beginnings of answers may take; the rest is for what follows them, so that streams
/// whose windows are shut do not hold up the others.
pub const BACKLOG_FIRST: usize = 256 * 1024;
/// As long as no more is held, beginnings are read into small buffers; above, into tiny ones.
pub const BACKLOG_EASY: usize = 48 * 1024;
/// Heads of answers shorter than this are not counted there: as many as there may be streams are few octets.
pub const HEAD_COUNTED: usize = 1024;
/// Octets of request heads that an HTTP/2 connection holds; more streams are refused (exam R03).
pub const H2_HEADS_MAX: usize = 256 * 1024;
/// What a DATA frame costs in h2 beside its octets.
pub const H2_FRAME_COST: usize = 256;

/// Highest value of `limits.head`: a head and what we add to it must fit in a medium buffer.
pub const HEAD_MAX: usize = 48 * 1024;
/// Room for the fields that we add to a forwarded head.
pub const HEAD_ADDED_MAX: usize = 8 * 1024;
/// Highest value of `limits.fields`.
pub const FIELDS_MAX: usize = 256;
/// A method longer than this is refused.
pub const METHOD_MAX: usize = 32;
/// Longest authority (RFC 1035 section 2.3.4 allows 255 octets for a name; a port on top).
pub const AUTHORITY_MAX: usize = 262;
/// Response heads may be longer than request heads; the bound is ours, not the user's.
pub const RESPONSE_HEAD_MAX: usize = 48 * 1024;
/// Fields of a response head.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// Interim (1xx) responses before the final one (exam B15).
pub const INTERIM_MAX: u32 = 32;
/// Bytes of chunk extensions in one body (exam A31).
pub const CHUNK_EXTENSIONS_MAX: usize = 4 * 1024;
/// Bytes of a trailer section.
pub const TRAILERS_MAX: usize = 8 * 1024;
/// Fields of a trailer section.
pub const TRAILER_FIELDS_MAX: usize = 64;
/// Entries of a Via field before we call it a loop (exam C09).
pub const VIA_HOPS_MAX: usize = 20;
/// Clients of a shard for which the lines that a proxy adds are kept: at most 3 KiB each.
pub const INTRODUCTIONS: usize = 512;
/// Addresses looked at in X-Forwarded-For, from the right.
pub const FORWARDED_HOPS_MAX: usize = 64;

/// Threads whose allocations are counted without an atomic addition; others share a counter.
pub const MEMORY_LANES: usize = 128;
/// Octets that a thread allocates before it looks at the bound on memory again.
pub const MEMORY_LOOK: i64 = 128 * 1024;
/// Octets of `/proc/self/statm` that are read: seven numbers.
pub const STATM_FILE: usize = 256;
/// Connections accepted in one go before other tasks run.
pub const ACCEPT_BATCH: usize = 64;
/// Listen backlog.
pub const BACKLOG: i32 = 4096;
/// How long the start waits for an address that is still taken, and how often it tries.
pub const LISTEN_PATIENCE: Duration = Duration::from_secs(2);
pub const LISTEN_EVERY: Duration = Duration::from_millis(20);
/// How long accepting pauses after EMFILE and its kin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How often a shard looks at its deadlines.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Default of `timeouts.half_closed`.
pub const HALF_CLOSED: Duration = Duration::from_secs(1);
/// How often it is looked whether a client has left whose request is served.
pub const LEFT_EVERY: Duration = Duration::from_millis(200);
/// Sockets that are looked at in one call.
pub const LOOKS_AT_ONCE: usize = 1024;
/// Buckets of the deadline wheel: one a sweep. Later deadlines wait in the last one.
pub const WHEEL_BUCKETS: usize = 1024;

/// How long a closed connection's unread input is read and thrown away (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);
/// How many bytes of it.
pub const LINGER_BYTES: u64 = 1024 * 1024;

/// Tries at an upstream for one exchange, the first included.
pub const ATTEMPTS_MAX: usize = 4;
/// Idle client connections that are ended ten times a second while memory is short.
pub const ENDED_IN_NEED: usize = 64;
/// Highest value of `queue.max`.
pub const QUEUE_MAX: u64 = 65_536;
/// Octets of the answer to a health check that are looked at.
pub const PROBE_BYTES: usize = 64 * 1024;
/// How long an endpoint that refused a connection is passed over.
pub const ENDPOINT_REST: Duration = Duration::from_secs(1);
/// Addresses of a name that one dial tries.
pub const ADDRESSES_TRIED: usize = 3;
/// How long one has before the next is tried beside it (RFC 8305 section 5).
pub const ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Addresses kept for a host name.
pub const ADDRESSES_MAX: usize = 64;
/// Addresses kept for all names of a configuration, but at least `PLACES_EACH` for each.
pub const PLACES_MAX: usize = 4096;
pub const PLACES_EACH: usize = 4;
/// Endpoints of a cluster, with all places.
pub const ENDPOINTS_MAX: usize = 60_000;

/// Commands waiting for a shard.
pub const MAILBOX: usize = 1024;
/// Messages between shards about the cache waiting for one of them; a request that finds no room
/// goes to its origin.
pub const CACHE_MAILBOX: usize = 16 * 1024;
/// Entries of other shards that a shard keeps near.
pub const NEAR_ENTRIES: usize = 4096;
/// Variants of one URL; the oldest leaves for the next (exam E08).
pub const VARIANTS_MAX: usize = 64;
/// Octets of what selects one variant, names and values: a response that takes more is not stored, for each
/// lookup is held against every variant.
pub const SELECTING_MAX: usize = 4 * 1024;
/// Fetches of one URL for the cache under way at once, in one shard; more go to the origin by themselves.
pub const FILLS_OF_URL_MAX: usize = 128;
/// How long those that lag behind in such a response may keep others waiting, before they are cut off.
pub const FLOW_PATIENCE: Duration = Duration::from_secs(10);
/// Octets in a second for which they are forgiven that.
pub const FLOW_RATE: u64 = 256 * 1024;
/// How long a response that no client reads waits for those that know of it.
pub const FLOW_GRACE: Duration = Duration::from_secs(1);
/// Fetches anew of stale entries under way at once, for each shard; more are served without.
pub const REFRESHES_MAX: u32 = 256;
/// Messages about the cache that found a full mailbox, for each shard; they are sent again.
pub const CACHE_LATE_MAX: usize = 64 * 1024;
/// Octets of a response without a length that its readers may lag behind once it is too large to
/// be stored.
pub const FLOW_WINDOW: u64 = 256 * 1024;
/// How long a process that ends keeps the cache's folder, for what its shards have still to write.
pub const FOLDER_KEPT: Duration = Duration::from_millis(300);
/// How long the start waits for a folder that another process has.
pub const FOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a request waits for the cache's disk before it goes to its origin.
pub const DISK_PATIENCE: Duration = Duration::from_millis(250);
/// Orders waiting for the disk, of each kind.
pub const DISK_ORDERS: usize = 16 * 1024;
/// Octets of responses waiting to be written; more are not written.
pub const DISK_QUEUE: u64 = 32 * 1024 * 1024;
/// How long the end of the process waits for the reader of standard error.
pub const NOTICES_PATIENCE: Duration = Duration::from_secs(1);
/// Reports of workers that wait for the coordinator: a worker sends a few in its life and never waits;
/// what finds no room is dropped, and the coordinator does not wait for it for ever.
pub const REPORTS: usize = 4096;
/// What the resolver and the prober have found and the coordinator has not heard: beyond that they wait.
pub const NEWS: usize = 1024;
/// Readers of one response on its way into the cache that its writer has not looked at yet, in lists
/// that are made one after the other; more readers are refused.
pub const FLOW_READERS: [usize; 4] = [16, 128, 1024, 8192];
/// Lines for standard error that wait for its reader; more are dropped and counted.
pub const NOTICES: usize = 4096;
/// Batches of access log waiting for the writer; more are dropped and counted.
pub const LOG_BATCHES: usize = 256;
/// Bytes after which a batch of access log is handed over before its sweep.
pub const LOG_BATCH_BYTES: usize = 64 * 1024;
/// Bytes of one text (target, referrer, user agent) kept for the access log.
pub const LOG_TEXT_MAX: usize = 2 * 1024;
/// Octets of the memory that one exchange runs in.
pub const FUTURE_BYTES: usize = 2560;
/// Pieces of that memory that a shard keeps for reuse.
pub const FUTURES_KEPT: usize = 1024;
/// Workspaces (parsed heads) a shard keeps for reuse.
pub const WORKSPACES_KEPT: usize = 1024;

/// Largest TLS ClientHello that is read for its name.
pub const CLIENT_HELLO_MAX: usize = 16 * 1024;

/// Octets of a TLS handshake that may come before it is through; one with client certificates is
/// the largest.
pub const TLS_HANDSHAKE_MAX: usize = 64 * 1024;
/// Records that we owe a TLS peer: a peer that lets them pile up does not read.
pub const TLS_DUE_MAX: usize = 256 * 1024;
/// TLS records without data in a row (exam L09).
pub const TLS_EMPTY_RECORDS_MAX: u32 = 64;
/// TLS handshakes of a shard whose cryptography is done before others get their turn.
pub const TLS_TURNS: u32 = 2;
/// TLS handshakes of a shard that may wait for a turn; more are turned away.
pub const TLS_QUEUE: usize = 4096;
/// Data of TLS records that go out in one call.
pub const TLS_BATCH: usize = 192 * 1024;
/// The same where the kernel does not take as much at once.
pub const TLS_BATCH_SLOW: usize = 60 * 1024;
/// HTTP/2 streams of one connection that may be reset by either side at once, and in a second.
pub const H2_RESETS_BURST: u32 = 200;
/// Two answers of an origin pay for one more.
pub const H2_RESETS_RATE: u32 = 50;
/// CONTINUATION frames of one head.
pub const H2_CONTINUATIONS_MAX: u32 = 8;
/// Frames without anything in them, in a row.
pub const H2_EMPTY_MAX: u32 = 100;
/// Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM) at once, and in a second.
pub const H2_CONTROL_BURST: u32 = 1000;
pub const H2_CONTROL_RATE: u32 = 100;
/// How many more streams than it may have open are remembered of an HTTP/2 client.
pub const H2_OPEN_SPARE: usize = 64;
/// Streams of an HTTP/2 client that we have reset, of which is remembered that we did.
pub const H2_ENDED_KEPT: usize = 1024;
/// Streams of an HTTP/2 client that h2 resets or refuses before it ends the connection by itself: the meter
/// should have done so long before.
pub const H2_LOCAL_RESETS_MAX: usize = 10_000;
/// Streams of an HTTP/2 client that may be refused at once because they are too many, and in a second.
pub const H2_REFUSED_BURST: u32 = 1000;
pub const H2_REFUSED_RATE: u32 = 500;
/// Ids that an HTTP/2 client has skipped, of which is remembered what a fault on them is called.
pub const H2_GAPS_MAX: usize = 16;
/// Tasks for requests of HTTP/2 that a core keeps for the next ones, of some 9 KiB each.
pub const H2_TASKS_KEPT: usize = 256;
/// After such a silence an HTTP/2 endpoint that owes answers is pinged, and after another one given up.
pub const H2_PING_EVERY: Duration = Duration::from_secs(10);
/// What small frames that no task has read yet may cost an HTTP/2 client's connection: octets.
pub const H2_DOWNSTREAM_FRAMES: usize = 4 * 1024 * 1024;
/// The same of a connection to an endpoint, which many clients share.
pub const H2_UPSTREAM_FRAMES: usize = 64 * 1024 * 1024;
/// Requests to an HTTP/2 endpoint that were given up and of which something may still come.
pub const H2_UPSTREAM_RESETS: usize = 4096;
/// HTTP/2 connections to an endpoint, for each shard; beyond that requests wait for a stream.
pub const H2_CONNECTIONS_MAX: usize = 16;
/// Octets of one HTTP/2 stream that are buffered for a peer whose window is shut.
pub const H2_SEND_BUFFER: usize = 64 * 1024;
/// How long what still comes of a body is taken on a stream that was answered early, before it is reset:
/// deadlines are up to two sweeps late, never early, so at least 250 ms.
pub const H2_LINGER: Duration = Duration::from_millis(300);
/// Empty lines before a request that are passed over (RFC 9112 section 2.2 speaks of one at least).
pub const EMPTY_LINES_MAX: usize = 4;
/// Octets of a request's body that are kept until an endpoint of HTTP/2 answers, to be sent again.
pub const REPLAY_MAX: usize = 64 * 1024;
/// Octets that an HTTP/2 connection puts together before it sends them.
pub const H2_FLUSH: usize = 60 * 1024;

/// Octets of certificates, keys or revocation lists in one file.
pub const PEM_MAX: u64 = 4 * 1024 * 1024;
/// How often certificate files are looked at.
pub const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);
/// How often what ends soon or has ended (certificates, staples, revocation lists) is said.
pub const CERTIFICATES_TOLD_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Largest configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Files that a configuration may include.
pub const INCLUDES_MAX: usize = 256;
/// Largest weight of an endpoint.
pub const WEIGHT_MAX: u32 = 1000;
/// Longest regular expression of a route.
pub const REGEX_MAX: usize = 1024;
/// Compiled size of one.
pub const REGEX_COMPILED_MAX: usize = 1024 * 1024;

/// Ring entries and completion entries (net, rule 1).
pub const RING_ENTRIES: u32 = 1024;
pub const RING_COMPLETIONS: u32 = 8192;

const _: () = assert!(HEAD_MAX + HEAD_ADDED_MAX + BUFFER_HEADROOM <= BUFFER_MEDIUM);
const _: () = assert!(RESPONSE_HEAD_MAX + HEAD_ADDED_MAX + BUFFER_HEADROOM <= BUFFER_MEDIUM);
const _: () = assert!(BACKLOG_FIRST - BACKLOG_EASY >= 100 * BUFFER_TINY);
const _: () = assert!(BACKLOG_FIRST + 3 * BUFFER_SMALL <= BACKLOG_MAX);
const _: () = assert!(BACKLOG_MAX + 3 * BUFFER_MEDIUM <= 512 * 1024);
const _: () = assert!(H2_FLUSH + BUFFER_HEADROOM + BUFFER_TAILROOM + 2 * 1024 <= BUFFER_MEDIUM);
const _: () = assert!(BUFFER_TINY < BUFFER_SMALL);
const _: () = assert!(BUFFER_SMALL < BUFFER_MEDIUM && BUFFER_MEDIUM < BUFFER_LARGE);
const _: () = assert!(TRAILERS_MAX < BUFFER_SMALL);
const _: () = assert!(TLS_BATCH_SLOW + 4 * 1024 <= BUFFER_MEDIUM);
const _: () = assert!(TLS_BATCH + 16 * 1024 < BUFFER_LARGE);
const _: () = assert!(RING_COMPLETIONS >= 4 * RING_ENTRIES);

// upstream
/// An operator is told no more often what is wrong with an endpoint.
pub const COMPLAINTS_EVERY: Duration = Duration::from_secs(10);

// net
/// More octets of purges than this wait for nothing good.
pub const PURGE_LOG_MAX: u64 = 16 * 1024 * 1024;
/// After a write to the cache's disk that failed none is tried for so long.
pub const DISK_REST: Duration = Duration::from_secs(10);
/// Threads that read the cache's disk.
pub const DISK_READERS: usize = 2;
/// A shard that takes no news of the disk for so many tries is gone.
pub const DISK_TELLS: usize = 100;
/// Others that want the same are waited for before all files are looked through.
pub const SWEEP_GATHER: Duration = Duration::from_millis(50);
/// How exact an alarm is.
pub const ALARM_EVERY: Duration = Duration::from_millis(2);
/// After such a pause a flow of TLS records is young again.
pub const TLS_PAUSE: Duration = Duration::from_secs(1);
/// So much of a young flow goes out in small TLS records.
pub const EARLY_DATA_MAX: usize = 64 * 1024;
/// Sessions that a shard keeps for one cluster.
pub const TLS_SESSIONS: usize = 256;

// config
/// Longest duration: a year. More is a slip of the keyboard.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Less memory than this holds nothing to speak of.
pub const CACHE_MEMORY_MIN: u64 = 1024 * 1024;

// cache
/// How much an entry can be wanted (S3-FIFO's two bits).
pub const HEAT_MAX: u8 = 3;
/// What will be stale within so many seconds is not worth a file.
pub const FILE_LIFETIME_MIN: i64 = 10;
/// More ranges than this are answered with the whole (exam E15).
pub const RANGES_MAX: usize = 16;
/// Entries that a tick holds against wide purges.
pub const PURGE_LOOKS: usize = 4096;
/// How long each request for a key whose response could not be stored makes a fetch of its own.
pub const MARK_LASTS: Duration = Duration::from_secs(10);
/// How many keys whose response could not be stored are remembered.
pub const MARKS_MAX: usize = 8192;
/// A fetch without a head after this long is given up: another may begin.
pub const FILL_ABANDONED: Duration = Duration::from_secs(60);
/// How often a stale response is fetched anew, if that does not help.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Bodies up to this many octets stand behind the head, in one block with it.
pub const INLINE_MAX: usize = 16 * 1024;
/// Pieces of a body are at least this large, but for the last.
pub const PIECE_MIN: usize = 64 * 1024;
/// More text than this before a body was not written by us: heads have narrower bounds.
pub const FILE_TEXTS_MAX: u64 = 1024 * 1024;
/// Wide purges that wait to be held against entries.
pub const PURGES_WAITING_MAX: usize = 1024;
/// Members of a list that are put in order. Longer ones are compared as they come: no browser sends
/// such, and sorting them would be work that a client can ask for.
pub const VARY_SORTED_MAX: usize = 64;
/// The longest lifetime that we guess (RFC 9111 section 4.2.2).
pub const HEURISTIC_MAX: u32 = 24 * 3600;
/// A number of seconds beyond this is this (RFC 9111 section 1.2.2).
pub const SECONDS_MAX: u32 = 1 << 31;

// route
/// A text that an expression matches is cut here.
pub const SAMPLE_MAX: usize = 256;
/// Longest name that is looked up; longer ones were refused by the codec.
pub const HOST_NAME_MAX: usize = 256;

// downstream
/// How long a new connection without a byte does not count as idle.
pub const FRESH_LASTS: Duration = Duration::from_secs(1);

// exchange
/// How often a request waits for the fetch of another request, before the error is its own.
pub const FILL_WAITS_MAX: u32 = 2;
/// How often it waits for a fetch whose own client leaves.
pub const FILL_CLIENTS_MAX: u32 = 32;
/// Larger parts are not put together: that would be copying.
pub const JOINED_MAX: usize = 8 * 1024 * 1024;

// control
/// A TTL is believed within these bounds.
pub const TTL_LEAST: Duration = Duration::from_secs(1);
pub const TTL_MOST: Duration = Duration::from_secs(300);
/// The system's resolver does not tell a TTL.
pub const TTL_UNKNOWN: Duration = Duration::from_secs(30);
/// How long the start waits for names, so that the first request finds addresses.
pub const FIRST_NAMES: Duration = Duration::from_secs(2);
/// A log's daemon that is gone is looked for again at most so often.
pub const REOPENED_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for an access log that is not read.
pub const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end waits for what is still to be written to the cache's disk.
pub const DISK_END: Duration = Duration::from_secs(5);
/// Spans go to their collector at least so often, and as many at once; it has so long to take them, and the operator is told
/// at most so often that it did not.
pub const EXPORT_EVERY: Duration = Duration::from_secs(1);
pub const EXPORT_SPANS: usize = 512;
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
pub const EXPORT_TOLD_EVERY: Duration = Duration::from_secs(60);
/// A worker that has not run for so long stands still: others accept in its place.
pub const STALL_AFTER: Duration = Duration::from_millis(600);
/// How often dead workers and endpoints in trouble are looked for.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Signals this close to each other are one.
pub const SAME_SIGNAL: Duration = Duration::from_millis(500);

// worker
/// How long idle connections may still bring a request after the order to drain: a client that is
/// about to send one would otherwise meet a closed connection.
pub const IDLE_GRACE: Duration = Duration::from_secs(1);

// shard
/// How long another core may take to answer.
pub const CACHE_ANSWER_PATIENCE: Duration = Duration::from_secs(2);

// health
/// How long failures are counted before endpoints are judged.
pub const OUTLIER_WINDOW: Duration = Duration::from_secs(5);
/// An endpoint that was good for so long after its last ejection begins anew.
pub const FAILURES_FORGIVEN: Duration = Duration::from_secs(60);
/// How long one that tries an endpoint has for it before another may.
pub const TRIAL_LASTS: Duration = Duration::from_secs(1);

// wire
/// A window of HTTP/2 is no larger (RFC 9113 section 6.9.1).
pub const WINDOW_MAX: u32 = 0x7fff_ffff;
/// A header block that is longer is not looked at.
pub const BLOCK_MAX: usize = 64 * 1024;
/// Octets of a TLS record, at most (RFC 8446 section 5.1).
pub const HELLO_RECORD_MAX: usize = 1 << 14;
/// Longest version 1 header of the PROXY protocol.
pub const PROXY_V1_MAX: usize = 107;
/// Longest version 2 header that we read: addresses and 1 KiB of TLVs.
pub const PROXY_V2_MAX: usize = 16 + 216 + 1024;
/// SETTINGS_MAX_FRAME_SIZE, which we leave as it is.
pub const FRAME_MAX: usize = 16_384;

// limit
/// What is measured without a crowd holds for so long.
pub const GRADIENT_MEASURED: Duration = Duration::from_secs(60);

// === the admin listener ===

/// Connections at a time; more wait to be accepted.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// Octets of a request's body.
pub const ADMIN_BODY_MAX: usize = 64 * 1024;
/// How long a connection may take for all it does.
pub const ADMIN_CONNECTION_LASTS: Duration = Duration::from_secs(60);
/// How long a listener waits that cannot accept.
pub const ADMIN_PAUSE: Duration = Duration::from_millis(20);
/// How long a process that ends keeps the admin listener's TCP port, which the next process needs.
pub const ADMIN_PORT_KEPT: Duration = Duration::from_secs(1);
/// How long a head may take.
pub const ADMIN_HEAD_MAX: Duration = Duration::from_secs(5);
/// Exchanges that a shard remembers, and of those that failed.
pub const RECORDS_KEPT: usize = 1024;
pub const RECORDS_FAILED: usize = 128;
/// Of so many configurations before, exchanges are remembered.
pub const PAST_CONFIGS: usize = 8;
/// Series of metrics of one kind: what comes after is left out, and counted.
pub const SERIES_MAX: usize = 2000;
/// Workers whose answers are waited for.
pub const ADMIN_ANSWERS: usize = 1024;
/// Exchanges that wait for one watcher.
pub const TAPPED: usize = 4096;
/// How often it is looked whether a watcher is still there, and what it has missed.
pub const TAP_LOOK: Duration = Duration::from_millis(500);
/// A watcher is sent something at least so often.
pub const TAP_SILENCE: Duration = Duration::from_secs(30);
/// Watchers at a time.
pub const TAPS_MAX: usize = 8;
/// Lines that wait for a watcher's connection.
pub const TAPPED_LINES: usize = 256;
/// Orders that wait for the coordinator.
pub const ADMIN_ORDERS: usize = 16;
/// How long the coordinator and the workers may take for an answer.
pub const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a wrong token waits for its answer.
pub const ADMIN_REFUSAL_DELAY: Duration = Duration::from_millis(500);

// === a new binary in place of the running one ===

/// How long a new process may take until it serves.
pub const HEIR_PATIENCE: Duration = Duration::from_secs(45);
/// How long the answers of an admin listener that ends are still written.
pub const ADMIN_LINGERS: Duration = Duration::from_secs(1);
