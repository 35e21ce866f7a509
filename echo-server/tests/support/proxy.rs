//! A proxy as small as can be: each connection goes to the next server that takes it.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Listens on a port of its own.
pub struct Proxy {
    pub base: String,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let servers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let (known, turn) = (Arc::clone(&servers), AtomicUsize::new(0));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let servers = known.lock().unwrap().clone();
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || connect(client, &servers, turn));
            }
        });
        Self { base, servers }
    }

    /// Sends connections to this server, too.
    pub fn add(&self, base: &str) {
        self.servers.lock().unwrap().push(address(base));
    }

    /// Sends this server no connections any more; those it has stay.
    pub fn remove(&self, base: &str) {
        self.servers.lock().unwrap().retain(|server| *server != address(base));
    }
}

fn address(base: &str) -> SocketAddr {
    base.trim_start_matches("http://").parse().unwrap()
}

fn connect(client: TcpStream, servers: &[SocketAddr], turn: usize) {
    let order = (0..servers.len()).map(|n| servers[(turn + n) % servers.len()]);
    let mut open = order.filter_map(|at| TcpStream::connect_timeout(&at, CONNECT_TIMEOUT).ok());
    // Without a server the connection is closed, which a client takes for a reason to try again.
    let Some(server) = open.next() else { return };
    // Heads and bodies pass as they come, without waiting for acknowledgements.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (Ok(mut up), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = copy(&mut up, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut down) = (server, client);
    let _ = copy(&mut from, &mut down);
    let _ = down.shutdown(Shutdown::Both);
}
