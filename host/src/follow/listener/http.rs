//! One HTTP/1.1 request on a connection, for probes and scrapes: bounded in time and size, then the connection ends.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take over its request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest request head, in bytes; the least hyper takes.
const MAX_HEAD: usize = 8192;

/// Answers one request by `answer`, within `longest` for the whole connection.
///
/// # Errors
/// Why the connection did not end well, for the log.
pub(crate) async fn answer_one<F>(
    stream: TcpStream,
    longest: Duration,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Result<(), String>
where
    F: Future<Output = Response<String>>,
{
    let service = service_fn(|request| {
        let response = answer(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(longest, connection).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took more than {longest:?}")),
    }
}
