//! The door: connections as TCP has them, before anything is known of them. What always holds:
//!
//! 1. There are never more than so many; whoever comes then waits in the kernel until one has gone.
//! 2. Whoever is slow in asking, or takes nothing of what is written to them, is cut off. With the connection goes
//!    whatever it held, whether the answer is a page, a stream or a socket.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

use crate::hub::SILENCE_LIMIT;

/// The largest head of a request, and how much of an answer waits for the other side, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the door stays shut when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long connections are borne, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// How many connections there are at most: sockets, streams, and whoever asks for something or is about to.
    pub connections: usize,
    /// How long the head of a request may take, and how long a connection may be idle between two requests.
    pub head_patience: Duration,
    /// How long the other side may take nothing of what is written to it.
    pub write_patience: Duration,
}

impl Default for Serving {
    fn default() -> Self {
        // More than there may be sockets and streams, so that requests are answered even when those are all taken.
        Self { connections: 24_000, head_patience: Duration::from_secs(30), write_patience: SILENCE_LIMIT }
    }
}

/// Serves until it is told to stop, and then until everything that was open is closed.
pub async fn serve(listener: TcpListener, router: Router, serving: Serving, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(serving.connections.min(Semaphore::MAX_PERMITS)));
    // Everybody who is connected holds a receiver, so it is closed once all have gone.
    let (stopping, _) = watch::channel(());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(serving.head_patience).max_buf_size(BUFFER_BYTES);
    // With its state, so that what is common to all requests is not made anew for each.
    let service = TowerToHyperService::new(router.with_state::<()>(()));
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener, &room, serving.write_patience) => stream,
            () = &mut stop => break,
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone()).with_upgrades();
        let mut stopped = stopping.subscribe();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                // What was asked for is still answered.
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection has ended early");
            }
        });
    }
    drop(listener);
    stopping.send_replace(());
    stopping.closed().await;
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>, patience: Duration) -> Guarded {
    let place = Arc::clone(room).acquire_owned().await.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // What is written goes out at once: writes are joined before they come here.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return Guarded { stream, patience, stalled: None, _place: place };
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection failed that was being taken, and the next may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that has its place as long as anybody holds it, and whose writes fail once the other side has taken
/// nothing for too long.
struct Guarded {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Guarded {
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.in_time(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
