//! Redis as an accelerator: four commands of its protocol, in limits of time.
//!
//! RESP 2: a command is an array of bulk strings, an answer begins with its kind. A client library
//! would bring a pool, clusters and retries, none of which a cache that may vanish at any time needs.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
const COMMAND_TIMEOUT: Duration = Duration::from_millis(100);
/// After so many failures in a row nobody asks for a while.
const MAX_FAILURES: u32 = 5;
const REST: Duration = Duration::from_secs(10);
/// The longest value kept or read.
pub(super) const MAX_VALUE_BYTES: usize = 8 << 20;

/// One connection to Redis, made again when it breaks.
#[derive(Debug)]
pub(super) struct Redis {
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: String,
    login: Vec<String>,
    database: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<BufReader<TcpStream>>,
    failures: u32,
    rests_until: Option<Instant>,
    has_warned: bool,
}

/// What Redis answered.
type Reply = Option<Vec<u8>>;

impl Redis {
    /// The Redis of a URL such as `redis://user:password@host:6379/0`.
    pub(super) fn from_url(url: &str) -> Option<Self> {
        let place = Place::parse(url)?;
        Some(Self { place, state: Mutex::default() })
    }

    /// The value of a key; `None` if there is none or Redis is not well.
    pub(super) async fn get(&self, key: &str) -> Option<Bytes> {
        self.ask(&[b"GET", key.as_bytes()]).await.flatten().map(Bytes::from)
    }

    /// Keeps a value for a time.
    pub(super) async fn set(&self, key: &str, value: &[u8], kept: Duration) {
        if value.len() <= MAX_VALUE_BYTES {
            let seconds = kept.as_secs().max(1).to_string();
            self.ask(&[b"SET", key.as_bytes(), value, b"EX", seconds.as_bytes()]).await;
        }
    }

    /// Forgets a value.
    pub(super) async fn remove(&self, key: &str) {
        self.ask(&[b"DEL", key.as_bytes()]).await;
    }

    /// Whether Redis has answered of late.
    pub(super) fn is_well(&self) -> bool {
        self.state.try_lock().is_ok_and(|state| state.connection.is_some())
    }

    async fn ask(&self, command: &[&[u8]]) -> Option<Reply> {
        // Who cannot have the connection at once is faster without it.
        let mut state = timeout(COMMAND_TIMEOUT, self.state.lock()).await.ok()?;
        if state.rests_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        // Taken out, so that a question given up half-way leaves no connection with half an answer.
        let connection = match state.connection.take() {
            Some(connection) => Some(connection),
            None => timeout(CONNECT_TIMEOUT, self.connect()).await.ok().flatten(),
        };
        let asked = async {
            let mut connection = connection?;
            let reply = exchange(&mut connection, command).await?;
            Some((connection, reply))
        };
        match timeout(COMMAND_TIMEOUT, asked).await.ok().flatten() {
            Some((connection, reply)) => {
                *state = State { connection: Some(connection), ..State::default() };
                Some(reply)
            }
            None => {
                state.failures += 1;
                if state.failures >= MAX_FAILURES {
                    state.failures = 0;
                    state.rests_until = Some(Instant::now() + REST);
                }
                if !std::mem::replace(&mut state.has_warned, true) {
                    tracing::warn!("Redis does not answer: results are cached in memory");
                }
                None
            }
        }
    }

    async fn connect(&self) -> Option<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.place.address).await.ok()?;
        let _ = stream.set_nodelay(true);
        let mut connection = BufReader::new(stream);
        if !self.place.login.is_empty() {
            let mut command: Vec<&[u8]> = vec![b"AUTH"];
            command.extend(self.place.login.iter().map(String::as_bytes));
            exchange(&mut connection, &command).await?;
        }
        if let Some(database) = &self.place.database {
            exchange(&mut connection, &[b"SELECT", database.as_bytes()]).await?;
        }
        Some(connection)
    }
}

impl Place {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.trim().strip_prefix("redis://")?;
        let (login, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let address =
            if address.contains(':') { address.to_owned() } else { format!("{address}:6379") };
        let login = login.map(|login| {
            login.split(':').filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
        });
        let database =
            database.split('?').next().filter(|number| !number.is_empty() && *number != "0");
        let login = login.unwrap_or_default();
        (!address.starts_with(':')).then(|| Self {
            address,
            login,
            database: database.map(ToOwned::to_owned),
        })
    }
}

async fn exchange(connection: &mut BufReader<TcpStream>, command: &[&[u8]]) -> Option<Reply> {
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    connection.get_mut().write_all(&request).await.ok()?;
    let mut line = String::new();
    connection.take(512).read_line(&mut line).await.ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    match kind {
        "+" | ":" => Some(Some(rest.as_bytes().to_vec())),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else { return Some(None) };
            if length > MAX_VALUE_BYTES {
                return None;
            }
            let mut value = vec![0; length + 2];
            connection.read_exact(&mut value).await.ok()?;
            value.truncate(length);
            Some(Some(value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls_name_a_place() {
        let place = |url: &str| Place::parse(url).map(|p| (p.address, p.login, p.database));
        let plain = ("redis:6379".to_owned(), Vec::new(), None);
        assert_eq!(place("redis://redis:6379"), Some(plain.clone()));
        assert_eq!(place("redis://redis"), Some(plain));
        let full = ("h:1".to_owned(), vec!["u".to_owned(), "p".to_owned()], Some("2".to_owned()));
        assert_eq!(place("redis://u:p@h:1/2"), Some(full));
        assert_eq!(place("memcached://x"), None);
    }

    #[tokio::test]
    async fn a_redis_that_hangs_costs_little_and_is_left_alone() {
        // It accepts, and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        let redis = Redis::from_url(&url).unwrap();
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(redis.get("k").await, None);
        }
        // Five tries of 100 ms, then none: all fifty would take five seconds.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}
