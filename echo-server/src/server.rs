//! Listening, serving, background work, and going down in order.
//!
//! An accept loop of its own: `axum::serve` has no time limit for headers, and half-sent ones would
//! hold connections for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::{App, Drain};
use crate::auth::Peer;
use crate::clock::now_ms;
use crate::outbound;
use crate::patience::Impatient;
use crate::queue;
use crate::routes;
use crate::storage::Kept;
use crate::store::Horizon;
use crate::webhook;
use crate::worker;

/// The longest time between the first byte of a request and the last of its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time in which nothing of an answer is taken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a connection held in memory.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
const BACKLOG: u32 = 4096;
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);
/// The database is others' meanwhile.
const EXPIRY_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are still open after the drain are cut.
const GOODBYE: Duration = Duration::from_secs(5);

/// Binds the address that the configuration names.
///
/// # Errors
/// The operating system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is done, then drains; a second `stop` releases running jobs at once.
pub async fn serve(app: Arc<App>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let mut background = JoinSet::new();
    for slot in 0..app.pool.slots().len() {
        background.spawn(worker::supervise(Arc::clone(&app), slot));
    }
    if let Some(queue) = &app.queue {
        background.spawn(queue::publish(Arc::clone(&app), Arc::clone(queue)));
        tokio::spawn(Arc::clone(queue).carry_news(Arc::clone(&app)));
    }
    background.spawn(outbound::fetch_sources(Arc::clone(&app)));
    background.spawn(webhook::deliver(Arc::clone(&app)));
    background.spawn(sweep(Arc::clone(&app)));
    background.spawn(expire(Arc::clone(&app)));
    let router = routes::router(&app);
    // Every connection holds a receiver: it hears of the end, and its own end is heard of.
    let open = watch::Sender::new(());
    let accept = accept(&app, &listener, router, &open);
    tokio::select! {
        () = accept => {}
        () = drain(&app, stop) => {}
    }
    drop(listener);
    // Supervisors end by themselves: their jobs are done or were given back.
    let workers = async { while background.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, workers).await;
    let _ = tokio::time::timeout(GOODBYE, app.desk.closed()).await;
    open.send_replace(());
    let _ = tokio::time::timeout(GOODBYE, open.closed()).await;
    let _ = tokio::task::spawn_blocking(move || app.traces.close()).await;
}

/// Tells the metrics until the process ends.
pub async fn serve_metrics(app: Arc<App>, listener: TcpListener) {
    let router = routes::metrics_router(&app);
    accept(&app, &listener, router, &watch::Sender::new(())).await;
}

/// Goes down step by step; connections are accepted meanwhile, to be told.
async fn drain(app: &App, stop: impl Future<Output = ()>) {
    stop.await;
    tracing::info!("draining");
    app.drain(Drain::Announced);
    tokio::time::sleep(app.config.drain_delay).await;
    app.drain(Drain::Refusing);
    app.hub.work.notify_waiters();
    tokio::select! {
        _ = tokio::time::timeout(app.config.drain, idle(app)) => {}
        () = app.drained(Drain::Releasing) => {}
    }
    app.drain(Drain::Releasing);
    let _ = tokio::time::timeout(GOODBYE, idle(app)).await;
}

/// Waits until nothing is under way.
async fn idle(app: &App) {
    while !app.is_idle() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn accept(app: &App, listener: &TcpListener, router: Router, open: &watch::Sender<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                connection(stream, peer, router.clone(), open);
            }
            Err(error) => {
                // Out of file descriptors, most likely: closing connections will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                app.metrics.add("accept_errors_total", &[], 1.0);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connection(stream: TcpStream, peer: SocketAddr, router: Router, open: &watch::Sender<()>) {
    let stream = Impatient::new(stream, WRITE_TIMEOUT);
    let service = router.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    let mut closing = open.subscribe();
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    });
}

/// Ends attempts whose lease has run out.
async fn sweep(app: Arc<App>) {
    while app.is_running() {
        if let Err(error) = worker::sweep(&app).await {
            tracing::warn!(%error, "leases could not be swept");
        }
        app.pause(SWEEP_INTERVAL.min(app.config.lease / 2)).await;
    }
}

/// Erases what is old.
async fn expire(app: Arc<App>) {
    while app.is_running() {
        collect_garbage(&app).await;
        app.pause(EXPIRY_INTERVAL).await;
    }
}

/// Erases old jobs, some at a time.
async fn forget(app: &App, horizon: Horizon) {
    loop {
        match app.db.call(move |store| store.expire(&horizon)).await {
            Ok(expired) => {
                app.files.remove(&expired.orphans).await;
                if !expired.has_more || !app.is_running() {
                    return;
                }
            }
            Err(error) => return tracing::warn!(%error, "old jobs could not be erased"),
        }
        app.pause(EXPIRY_PAUSE).await;
    }
}

/// Erases what is older than the configuration keeps, and files that no row needs.
pub async fn collect_garbage(app: &App) {
    let now = now_ms();
    let before = |time: Duration| {
        let kept_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        (!time.is_zero()).then(|| now.saturating_sub(kept_ms))
    };
    let day = Duration::from_secs(24 * 3600);
    let horizon = Horizon {
        audio: before(app.config.audio_ttl),
        results: before(app.config.result_ttl),
        bookkeeping: before(day).unwrap_or(0),
        now,
    };
    forget(app, horizon).await;
    if let Err(error) = app.resumable.remove_expired().await {
        tracing::warn!(%error, "uploads that are over could not be removed");
    }
    if let Err(error) = app.files.remove_old_parts(day).await {
        tracing::warn!(%error, "old parts could not be removed");
    }
    let old = app.files.older(day).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "files that nobody needs could not be looked for");
        Vec::new()
    });
    for Kept { key, name } in old {
        if let Ok(false) = app.db.call(move |store| store.is_needed(&name)).await {
            tracing::info!(key, "a file nobody needs is removed");
            app.files.remove_keys(vec![key]).await;
        }
    }
}
