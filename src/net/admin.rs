//! The admin listener's sockets: HTTP/1.1 by hyper, on a thread of its own and never on a worker; and a client for
//! the commands that talk to it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::base::limits::{
    ADMIN_BODY_MAX, ADMIN_CONNECTION_LASTS, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_MAX, ADMIN_LINGERS,
    ADMIN_PAUSE,
};
use crate::config::admin::AdminAddress;
use crate::net::notice;

/// A request to the admin listener.
#[derive(Debug)]
pub struct AdminRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    pub fields: HeaderMap,
    pub body: Bytes,
    /// A body comes, or has come.
    pub has_body: bool,
    /// It came by the socket that only its owner may use.
    pub is_by_socket: bool,
}

/// The answer to it.
#[derive(Debug)]
pub struct AdminResponse {
    pub status: u16,
    pub content_type: &'static str,
    pub body: AdminBody,
}

/// What an answer says.
#[derive(Debug)]
pub enum AdminBody {
    Text(String),
    /// Lines as they come, until no task has any more.
    Lines(mpsc::Receiver<String>),
}

impl From<String> for AdminBody {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for AdminBody {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A body on its way; its connection is busy as long as there are lines to come.
struct WrittenBody {
    body: AdminBody,
    busy: Busy,
}

impl Body for WrittenBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |text: String| Some(Ok(Frame::data(Bytes::from(text))));
        match &mut self.body {
            AdminBody::Text(text) if text.is_empty() => Poll::Ready(None),
            AdminBody::Text(text) => Poll::Ready(frame(std::mem::take(text))),
            AdminBody::Lines(lines) => lines.poll_recv(context).map(|line| line.and_then(frame)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, AdminBody::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AdminBody::Text(text) => SizeHint::with_exact(text.len() as u64),
            AdminBody::Lines(_) => SizeHint::default(),
        }
    }
}

impl Drop for WrittenBody {
    fn drop(&mut self) {
        self.busy.0.store(false, Ordering::Relaxed);
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum AdminListener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The file of a unix socket, which goes with it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A process that came after us may have put its own there.
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl AdminListener {
    /// Opens it. A socket file that a dead process has left is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` if another process listens there.
    pub fn open(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            AdminAddress::Unix(path) => match UnixStream::connect(path) {
                Ok(_) if drains(address) => Self::replace(path),
                Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
                // What a process that is gone has left there.
                Err(_) => Self::replace(path),
            },
        }
    }

    /// Takes the place of whatever is there: of a process that this one follows.
    ///
    /// # Errors
    /// What the system says.
    pub fn replace(path: &Path) -> io::Result<Self> {
        open_socket(path)
    }

    /// The file of a socket that is in a folder.
    #[must_use]
    pub const fn inode(&self) -> Option<u64> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, file) => Some(file.inode),
        }
    }

    /// What is there now.
    #[must_use]
    pub fn inode_at(path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().map(|found| found.ino())
    }

    /// Another number of the same socket, if it is one of TCP.
    #[must_use]
    pub fn copy(&self) -> Option<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.try_clone().ok().map(OwnedFd::from),
            Self::Unix(..) => None,
        }
    }

    /// Where it listens, with the port that the system has chosen.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| String::new(), |address| format!("http://{address}")),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        }
    }
}

/// What a process says to `/readyz` that is about to end.
pub const DRAINING: &str = "draining\n";

/// Whether a millrace listens there that is about to end.
fn drains(address: &AdminAddress) -> bool {
    let answer = ask(address, "GET", "/readyz", None, "", Duration::from_secs(1));
    answer.is_ok_and(|(status, body)| status == 503 && body == DRAINING)
}

fn open_socket(path: &Path) -> io::Result<AdminListener> {
    use std::os::unix::net::UnixListener;
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir(folder)?;
    }
    // Made under another name and private before it can be found.
    let hidden = path.with_extension("new");
    let is_other =
        std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    if is_other {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    listener.set_nonblocking(true)?;
    let inode = std::fs::metadata(path)?.ino();
    Ok(AdminListener::Unix(listener, SocketFile { path: path.to_owned(), inode }))
}

/// The connections of an admin listener.
#[derive(Clone, Debug)]
pub struct AdminPlaces(Arc<Semaphore>);

impl Default for AdminPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)))
    }
}

impl AdminPlaces {
    /// Waits until all connections have ended, for a while.
    pub async fn emptied(&self) {
        let all = u32::try_from(ADMIN_CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(ADMIN_LINGERS, self.0.acquire_many(all)).await;
    }
}

/// What answers requests.
pub trait AdminService: Send + Sync + 'static {
    /// Whether a request is answered, by its head alone: its body has not been read.
    fn judge(
        &self,
        request: AdminRequest,
    ) -> impl Future<Output = Result<AdminRequest, AdminResponse>> + Send;

    /// Answers one that is.
    fn answer(&self, request: AdminRequest) -> impl Future<Output = AdminResponse> + Send;
}

/// Serves until it is dropped.
pub async fn serve<Service: AdminService>(
    listener: AdminListener,
    places: AdminPlaces,
    service: Arc<Service>,
) {
    let (accepted, _file) = match listener {
        AdminListener::Tcp(listener) => {
            (tokio::net::TcpListener::from_std(listener).map(Accepting::Tcp), None)
        }
        AdminListener::Unix(listener, file) => {
            (tokio::net::UnixListener::from_std(listener).map(Accepting::Unix), Some(file))
        }
    };
    let accepting = match accepted {
        Ok(accepting) => accepting,
        Err(error) => return notice::warn(format_args!("admin: {error}")),
    };
    let mut connections = OpenConnections::default();
    loop {
        connections.make_room().await;
        let Ok(place) = Arc::clone(&places.0).acquire_owned().await else { return };
        let busy = Busy::default();
        let mean =
            ConnectionMeans { service: Arc::clone(&service), busy: busy.clone(), _place: place };
        let task = match &accepting {
            Accepting::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| tokio::spawn(serve_one(stream, false, mean))),
            Accepting::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| tokio::spawn(serve_one(stream, true, mean))),
        };
        match task {
            Ok(task) => connections.0.push_back((busy, task)),
            Err(_) => tokio::time::sleep(ADMIN_PAUSE).await,
        }
    }
}

/// Whether an answer of a connection is being made.
#[derive(Clone, Debug, Default)]
struct Busy(Arc<AtomicBool>);

/// The connections, the oldest first.
#[derive(Default)]
struct OpenConnections(VecDeque<(Busy, JoinHandle<()>)>);

impl OpenConnections {
    /// Ends the oldest connection that asks for nothing, where there is no place for another: 32 silent ones keep no
    /// check and no operator out.
    async fn make_room(&mut self) {
        loop {
            self.0.retain(|(_, task)| !task.is_finished());
            if self.0.len() < ADMIN_CONNECTIONS_MAX {
                return;
            }
            let idle = self.0.iter().position(|(busy, _)| !busy.0.load(Ordering::Relaxed));
            match idle.and_then(|at| self.0.remove(at)) {
                Some((_, task)) => task.abort(),
                None => tokio::time::sleep(ADMIN_PAUSE).await,
            }
        }
    }
}

/// What a connection is served with.
struct ConnectionMeans<Service> {
    service: Arc<Service>,
    busy: Busy,
    _place: OwnedSemaphorePermit,
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

async fn serve_one<Service: AdminService>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_by_socket: bool,
    means: ConnectionMeans<Service>,
) {
    let answers = service_fn(|request: Request<Incoming>| {
        let (service, busy) = (Arc::clone(&means.service), means.busy.clone());
        async move {
            let response = match head(&request, is_by_socket) {
                Ok(head) => match service.judge(head).await {
                    // Only of a request that is granted the body is read.
                    Ok(head) => match body(request).await {
                        Ok(body) => {
                            busy.0.store(true, Ordering::Relaxed);
                            service.answer(AdminRequest { body, ..head }).await
                        }
                        Err(response) => response,
                    },
                    Err(response) => response,
                },
                Err(response) => response,
            };
            let has_more = matches!(response.body, AdminBody::Lines(_));
            busy.0.store(has_more, Ordering::Relaxed);
            Ok::<_, Infallible>(written(response, busy))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEAD_MAX)
        .max_buf_size(ADMIN_BODY_MAX)
        .serve_connection(TokioIo::new(stream), answers);
    let mut connection = std::pin::pin!(connection);
    // A watcher may stay as long as it likes.
    while tokio::time::timeout(ADMIN_CONNECTION_LASTS, &mut connection).await.is_err()
        && means.busy.0.load(Ordering::Relaxed)
    {}
}

fn head(request: &Request<Incoming>, is_by_socket: bool) -> Result<AdminRequest, AdminResponse> {
    // The absolute form is that of a proxy's request, which this is none.
    if request.uri().authority().is_some() {
        return Err(AdminResponse {
            status: 403,
            content_type: "application/json",
            body: "{\"error\":\"this is the admin listener: it forwards nothing\"}\n".into(),
        });
    }
    Ok(AdminRequest {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        fields: request.headers().clone(),
        body: Bytes::new(),
        has_body: !request.body().is_end_stream(),
        is_by_socket,
    })
}

async fn body(request: Request<Incoming>) -> Result<Bytes, AdminResponse> {
    let read = Limited::new(request.into_body(), ADMIN_BODY_MAX).collect();
    match tokio::time::timeout(ADMIN_HEAD_MAX, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        _ => Err(AdminResponse {
            status: 413,
            content_type: "application/json",
            body: format!(
                "{{\"error\":\"a body has at most {ADMIN_BODY_MAX} octets, and comes at once\"}}\n"
            )
            .into(),
        }),
    }
}

fn written(response: AdminResponse, busy: Busy) -> Response<WrittenBody> {
    let AdminResponse { status, content_type, body } = response;
    let built = Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
        .header("x-frame-options", "DENY")
        .header(
            "content-security-policy",
            "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        )
        .body(WrittenBody { body, busy: busy.clone() });
    built.unwrap_or_else(|_| Response::new(WrittenBody { body: "".into(), busy }))
}

/// Asks a running process. Returns the status and the body.
///
/// # Errors
/// What the system says; `InvalidData` for what is no answer.
pub fn ask(
    address: &AdminAddress,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let token =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let len = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{token}{kind}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut answer = Vec::new();
    match address {
        AdminAddress::Tcp(address) => {
            let mut stream = TcpStream::connect_timeout(address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
        }
        AdminAddress::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).and_then(|text| text.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NO_HTTP))
}

/// Asks a running process for lines as they come, and hands them out until `take` has enough, or the process ends.
///
/// # Errors
/// What the system says; the status and what is said with it, if that is not 200.
pub fn watch(
    address: &AdminAddress,
    target: &str,
    token: Option<&str>,
    take: &mut dyn FnMut(&str) -> bool,
) -> io::Result<Result<(), (u16, String)>> {
    let token =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    // HTTP/1.0: what comes is not in chunks, and ends with the connection.
    let request = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n{token}\r\n");
    let mut stream: Box<dyn ReadWrite> = match address {
        AdminAddress::Tcp(address) => {
            Box::new(TcpStream::connect_timeout(address, ADMIN_HEAD_MAX)?)
        }
        AdminAddress::Unix(path) => Box::new(UnixStream::connect(path)?),
    };
    stream.write_all(request.as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let status = first.get(9..12).and_then(|text| text.parse().ok());
    let status: u16 = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NO_HTTP))?;
    while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
    if status != 200 {
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        return Ok(Err((status, rest.join("\n"))));
    }
    for line in lines {
        if !take(&line?) {
            break;
        }
    }
    Ok(Ok(()))
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

const NO_HTTP: &str = "that is no answer of HTTP";
