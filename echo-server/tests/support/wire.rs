//! A wire to a server that can be cut, and be slow, and lead nowhere.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What is carried at once.
const PIECE_BYTES: usize = 16 * 1024;
/// How often a wire that carries nothing looks whether it shall.
const LOOK: Duration = Duration::from_millis(5);

/// What a wire does with bytes.
#[derive(Debug, Clone)]
pub enum Mood {
    /// It carries them.
    Whole,
    /// It carries them so much later.
    Slow(Duration),
    /// It carries a few, waits, and carries a few more.
    Drip { bytes: usize, pause: Duration },
    /// It keeps connections open and carries nothing: nobody hears that the other side is gone.
    Deaf,
    /// It closes each connection at once.
    Cut,
    /// It answers each connection like this, whatever is asked.
    Says(Vec<u8>),
}

/// Listens on a port of its own and leads to another one.
pub struct Wire {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    mood: Mutex<Mood>,
    /// After so many bytes to the server a connection is cut, each of these once.
    limits: Mutex<VecDeque<usize>>,
    open: Mutex<Vec<TcpStream>>,
    cuts: AtomicUsize,
}

impl Wire {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], port)),
            mood: Mutex::new(Mood::Whole),
            limits: Mutex::default(),
            open: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        let known = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&known);
                std::thread::spawn(move || shared.connect(client));
            }
        });
        Self { port: own, shared }
    }

    /// Changes the mood; connections that are open stay.
    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts as many connections as there are numbers, each when so many bytes went to the server.
    pub fn cut_after(&self, limits: &[usize]) {
        self.shared.limits.lock().unwrap().extend(limits);
    }

    /// Connections that were cut because of their number of bytes.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// For a time the wire is in a mood, then whole again.
    pub fn for_a_time(&self, mood: Mood, time: Duration) {
        self.set(mood);
        self.cut();
        wait(time);
        self.mend();
    }

    /// Carries again, and nothing of what came before.
    pub fn mend(&self) {
        self.set(Mood::Cut);
        self.cut();
        self.set(Mood::Whole);
    }
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        self.mood.lock().unwrap().clone()
    }

    fn is_enough(&self, carried: usize) -> bool {
        let mut limits = self.limits.lock().unwrap();
        let is_enough = limits.front().is_some_and(|limit| carried > *limit);
        is_enough && limits.pop_front().is_some()
    }

    fn connect(self: Arc<Self>, mut client: TcpStream) {
        match self.mood() {
            Mood::Cut => return,
            Mood::Says(answer) => {
                let _ = client.read(&mut [0; PIECE_BYTES]);
                let _ = client.write_all(&answer);
                let _ = client.shutdown(Shutdown::Write);
                // Read on, or what was not read would reset the connection before the answer is read.
                let _ = std::io::copy(&mut client, &mut std::io::sink());
                return;
            }
            _ => {}
        }
        let Ok(server) = TcpStream::connect_timeout(&self.server, CONNECT_TIMEOUT) else { return };
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
            return;
        }
        let ends = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(up), Ok(to), Ok(first), Ok(second)) = ends else { return };
        self.open.lock().unwrap().extend([first, second]);
        let shared = Arc::clone(&self);
        std::thread::spawn(move || shared.carry(up, to, true));
        self.carry(server, client, false);
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_up: bool) {
        let (mut piece, mut carried) = (vec![0; PIECE_BYTES], 0);
        while let Ok(read @ 1..) = from.read(&mut piece) {
            while matches!(self.mood(), Mood::Deaf) {
                wait(LOOK);
            }
            // What came while it was deaf is lost, even if it is mended at once.
            if matches!(self.mood(), Mood::Cut) {
                break;
            }
            carried += read;
            if is_up && self.is_enough(carried) {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
            let bytes = &piece[..read];
            let sent = match self.mood() {
                Mood::Slow(time) => {
                    wait(time);
                    to.write_all(bytes)
                }
                Mood::Drip { bytes: few, pause } => bytes.chunks(few).try_for_each(|few| {
                    wait(pause);
                    to.write_all(few)
                }),
                _ => to.write_all(bytes),
            };
            if sent.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
        // What is over needs no cutting.
        let own = [from.peer_addr().ok(), to.peer_addr().ok()];
        let is_own = |stream: &TcpStream| own.contains(&stream.peer_addr().ok());
        self.open.lock().unwrap().retain(|stream| !is_own(stream));
    }
}
