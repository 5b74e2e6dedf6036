//! System calls on sockets that neither std nor monoio offer, each wrapped once.

#![expect(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Which directions to shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    Read,
    Write,
    Both,
}

/// Shuts a socket down. What fails here was shut already.
pub fn shutdown(fd: RawFd, how: Directions) {
    let how = match how {
        Directions::Read => libc::SHUT_RD,
        Directions::Write => libc::SHUT_WR,
        Directions::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointers; a bad descriptor is an error, which does not matter.
    unsafe { libc::shutdown(fd, how) };
}

/// Octets that were written but not yet acknowledged by the peer.
#[must_use]
pub fn send_queue(fd: RawFd) -> Option<u32> {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to the pointer.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) };
    if result == 0 { u32::try_from(queued).ok() } else { None }
}

/// What a look into a socket finds, without taking anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Open, and nothing waits.
    Quiet,
    /// Bytes wait, or the peer has closed, or it is broken.
    Stirred,
}

/// Looks into an idle socket. poll does so without taking the socket's lock: a peek costs twice.
/// Called by its number, for it never waits: libc's wrapper prepares to be cancelled.
#[must_use]
pub fn peek(fd: RawFd) -> Peek {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: both pointers are good, the first for the one entry that is given with it.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut asked,
            1_usize,
            &raw const at_once,
            no_mask,
            0_usize,
        )
    };
    if ready == 0 { Peek::Quiet } else { Peek::Stirred }
}

/// Whether the peer has closed, whatever it sent before.
#[must_use]
pub fn is_hung_up(fd: RawFd) -> bool {
    is_ready(fd, libc::POLLRDHUP)
}

/// Whether the other end of a connection is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Here,
    /// It has ended its side, and may still read.
    HalfClosed,
    /// It has reset the connection, or both sides have ended.
    Gone,
}

/// Looks at many sockets in one call. What they hold unread does not matter.
pub fn peers(fds: impl Iterator<Item = RawFd>) -> impl Iterator<Item = PeerState> {
    let one = |fd| libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    let mut all: Vec<libc::pollfd> = fds.map(one).collect();
    let count = libc::nfds_t::try_from(all.len()).unwrap_or(0);
    // SAFETY: so many good entries, and no time to wait.
    unsafe { libc::poll(all.as_mut_ptr(), count, 0) };
    all.into_iter().map(|one| match one.revents {
        found if found & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 => PeerState::Gone,
        found if found & libc::POLLRDHUP != 0 => PeerState::HalfClosed,
        _ => PeerState::Here,
    })
}

/// Whether something can be written, or an error waits.
#[must_use]
pub fn is_writable(fd: RawFd) -> bool {
    is_ready(fd, libc::POLLOUT)
}

/// Whether the send buffer has room for so many octets now: less than that is written at once, and what is
/// more would wait in our memory for a peer that may be slow.
#[must_use]
pub fn has_room(fd: RawFd, len: usize) -> bool {
    // From linux/sock_diag.h: what of `struct sock` SO_MEMINFO tells.
    const SNDBUF: usize = 3;
    const WMEM_QUEUED: usize = 5;
    let mut facts = [0_u32; 9];
    let mut size = libc::socklen_t::try_from(size_of_val(&facts)).unwrap_or(0);
    let place = facts.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `size` octets, which is what is there.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut size) };
    result == 0 && (facts[SNDBUF].saturating_sub(facts[WMEM_QUEUED])) as usize >= len
}

fn is_ready(fd: RawFd, events: i16) -> bool {
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one good entry, and no time to wait.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    ready > 0
}

/// Resets a connection at once, whatever still waits for something on it (connect(2): `AF_UNSPEC`). What is
/// no TCP is reset, if at all, when it is closed.
pub fn disconnect(fd: RawFd) {
    // AF_UNSPEC is 0.
    let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or(0);
    // SAFETY: one good address of this length.
    unsafe { libc::connect(fd, &raw const nowhere, len) };
}

/// Closing will reset the connection, so that the peer cannot take the end for a complete one.
pub fn reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// The error that a finished connect left on its socket.
///
/// # Errors
/// That error.
pub fn take_error(fd: RawFd) -> io::Result<()> {
    let mut code: libc::c_int = 0;
    let mut len = len_of::<libc::c_int>();
    // SAFETY: SO_ERROR writes one int; both pointers are good for their lengths.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &raw mut len)
    };
    match (result, code) {
        (0, 0) => Ok(()),
        (0, code) => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A listening socket that shares its port with others of this process.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let fd = bind(address)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(fd)
}

/// A socket that has an address, and shares it with others of this program's.
///
/// # Errors
/// What the system says.
pub fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = stream_socket(family(address))?;
    let raw = fd.as_raw_fd();
    let on: libc::c_int = 1;
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT, &on)?;
    // Accepted sockets inherit it: no call per connection.
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on)?;
    let (storage, len) = to_sockaddr(address);
    // SAFETY: `storage` is a valid address of `len` octets.
    check(unsafe { libc::bind(raw, (&raw const storage).cast(), len) })?;
    Ok(fd)
}

/// Whether no socket listens there yet. Sockets that share a port would also share it with another
/// process of the same user: a program that was started twice would take half the requests.
///
/// # Errors
/// What the system says, `AddrInUse` among it.
pub fn claim(address: SocketAddr) -> io::Result<()> {
    let fd = stream_socket(family(address))?;
    let on: libc::c_int = 1;
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
    let (storage, len) = to_sockaddr(address);
    // SAFETY: `storage` is a valid address of `len` octets.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) }).map(|_| ())
}

/// The same socket under a number that a program which is started next inherits.
///
/// # Errors
/// What the system says.
pub fn inheritable(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD, 3) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes over a descriptor that this process was started with: it is not passed on by itself. `None` if there is none.
#[must_use]
pub fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, and the caller says that nothing else in this process has it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A listening socket must not keep an accept waiting.
///
/// # Errors
/// What the system says.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(|_| ())
}

/// The process that has started this one.
#[must_use]
pub fn parent() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getppid() }.cast_unsigned()
}

/// The address that a socket is bound to.
///
/// # Errors
/// What the system says.
pub fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    // SAFETY: all zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let mut len = len_of::<libc::sockaddr_storage>();
    // SAFETY: both pointers are good for their lengths.
    check(unsafe { libc::getsockname(fd, (&raw mut storage).cast(), &raw mut len) })?;
    Ok(from_sockaddr(&storage))
}

/// Accepts one connection, without blocking and closed on exec.
///
/// # Errors
/// `WouldBlock` if none waits; what the system says otherwise.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let mut len = len_of::<libc::sockaddr_storage>();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: both pointers are good for their lengths.
    let got = unsafe { libc::accept4(fd, (&raw mut storage).cast(), &raw mut len, flags) };
    let got = check(got)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(got) };
    Ok((socket, from_sockaddr(&storage)))
}

/// Begins to connect. `true` if that is done already.
///
/// # Errors
/// What the system says.
pub fn connect(address: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let fd = stream_socket(family(address))?;
    let on: libc::c_int = 1;
    set_option(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &on)?;
    let (storage, len) = to_sockaddr(address);
    // SAFETY: `storage` is a valid address of `len` octets.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const storage).cast(), len) };
    begun(result).map(|is_done| (fd, is_done))
}

/// Begins to connect to a Unix socket. `true` if that is done already.
///
/// # Errors
/// What the system says.
pub fn connect_unix(path: &Path) -> io::Result<(OwnedFd, bool)> {
    use std::os::unix::ffi::OsStrExt;
    let fd = stream_socket(libc::AF_UNIX)?;
    // SAFETY: all zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = short(libc::AF_UNIX);
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    let len = len_of::<libc::sockaddr_un>();
    // SAFETY: `address` is a valid address of `len` octets.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), len) };
    begun(result).map(|is_done| (fd, is_done))
}

/// A counter that can be waited for, to wake a ring from another thread.
///
/// # Errors
/// What the system says.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises the limit on open files as far as it goes. Returns where it stands then.
#[must_use]
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is good.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return u64::MAX;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is good.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    limit.rlim_cur
}

/// A timer that becomes readable after each `period`.
///
/// # Errors
/// What the system says.
pub fn timer(period: std::time::Duration) -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    arm(fd.as_raw_fd(), period)?;
    Ok(fd)
}

/// Sets a timer; zero stops it.
///
/// # Errors
/// What the system says.
pub fn arm(fd: RawFd, period: std::time::Duration) -> io::Result<()> {
    let period = libc::timespec {
        tv_sec: libc::time_t::try_from(period.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(i32::try_from(period.subsec_nanos()).unwrap_or(0)),
    };
    let every = libc::itimerspec { it_interval: period, it_value: period };
    let none = std::ptr::null_mut();
    // SAFETY: the pointer is good; the old setting is not wanted.
    check(unsafe { libc::timerfd_settime(fd, 0, &raw const every, none) }).map(|_| ())
}

/// Says a last word without waiting.
pub fn last_word(fd: RawFd, bytes: &[u8]) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer is good for the length that is given with it.
    unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
}

/// Takes the count out of an eventfd or a timer.
pub fn drain(fd: RawFd) {
    let mut count = [0_u8; 8];
    // SAFETY: the pointer is good for eight octets; the descriptor does not block.
    unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
}

/// Adds one to an eventfd. A full counter wakes as well.
pub fn notify(fd: RawFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the pointer is good for eight octets.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// Sends as much of several pieces as goes at once.
///
/// # Errors
/// `WouldBlock` if nothing goes now; the peer is gone.
pub fn send_pieces(fd: RawFd, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: a message header is plain data, for which zeros are good values.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: an IoSlice is an iovec by its contract; the kernel reads the octets during the call.
    let sent = unsafe { libc::sendmsg(fd, &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn begun(result: libc::c_int) -> io::Result<bool> {
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINPROGRESS) { Ok(false) } else { Err(error) }
}

fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is good for the length that is given with it.
    let result = unsafe {
        libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len_of::<T>())
    };
    check(result).map(|_| ())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn family(address: SocketAddr) -> libc::c_int {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("addresses and options are small")
}

fn short(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small")
}

fn to_sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    match address {
        SocketAddr::V4(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in>();
            let value = libc::sockaddr_in {
                sin_family: short(libc::AF_INET),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a storage is large and aligned enough for every kind of address.
            unsafe { place.write(value) };
            (storage, len_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in6>();
            let value = libc::sockaddr_in6 {
                sin6_family: short(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a storage is large and aligned enough for every kind of address.
            unsafe { place.write(value) };
            (storage, len_of::<libc::sockaddr_in6>())
        }
    }
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> SocketAddr {
    let place = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET6 => {
            // SAFETY: the kernel says that it wrote an IPv6 address.
            let address = unsafe { *place.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            SocketAddr::new(IpAddr::V6(ip).to_canonical(), u16::from_be(address.sin6_port))
        }
        libc::AF_INET => {
            // SAFETY: the kernel says that it wrote an IPv4 address.
            let address = unsafe { *place.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port))
        }
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn accept_connect_and_peek_agree() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap(), 16).unwrap();
            let bound = local_address(listener.as_raw_fd()).unwrap();
            assert_eq!(bound.is_ipv6(), address.starts_with('['));
            let (client, _) = connect(bound).unwrap();
            let (server, peer) = accept(listener.as_raw_fd()).unwrap();
            assert_eq!(peer, local_address(client.as_raw_fd()).unwrap());
            assert_eq!(peek(client.as_raw_fd()), Peek::Quiet);
            std::net::TcpStream::from(server).write_all(b"x").unwrap();
            assert_eq!(peek(client.as_raw_fd()), Peek::Stirred);
            assert!(accept(listener.as_raw_fd()).is_err());
        }
    }
}
