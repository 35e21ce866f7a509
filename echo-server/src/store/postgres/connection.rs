//! Connections to PostgreSQL, transactions on them, and what is done when they break.
//!
//! A transaction that broke before its `COMMIT` was sent has done nothing, so it is begun again on
//! another connection for a while; one whose `COMMIT` got no answer is not, because it may have been
//! done. The time of a transaction is the database's, which all replicas share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Config, Row, SimpleQueryMessage, Statement};

use super::super::{Result, StoreError};
use super::tls::{self, Tls};

/// Connections of one process; PostgreSQL allows 100 by default, to all replicas together.
const MAX_CONNECTIONS: usize = 12;
/// How long a broken transaction is begun again.
const PATIENCE: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that acknowledges nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// A transaction that lost against another one is tried so often.
const MAX_CONFLICTS: u32 = 5;
/// What every connection is told first.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '60s'; SET application_name = 'echo-server'";
const BEGIN: &str = "BEGIN; SELECT (extract(epoch FROM now()) * 1000)::bigint";

/// A value of a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// Whose time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Clock {
    /// The database's.
    Database,
    /// The caller's: tests jump through time.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests jump through time"))]
    Caller,
}

/// A connection and the statements it knows.
struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
    /// A transaction on it did not end: nobody shall have it after this.
    is_broken: bool,
}

/// A connection until it is given back, whatever happens.
struct Lent<'a> {
    connections: &'a Connections,
    connection: Option<Connection>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    open: usize,
}

/// Connections, opened when needed.
pub(super) struct Connections {
    config: Config,
    tls: Tls,
    pub(super) clock: Clock,
    idle: Mutex<Idle>,
    returned: Condvar,
    /// When the database answered again after it had not, by its own clock.
    recovered_at: AtomicI64,
    is_lost: std::sync::atomic::AtomicBool,
}

/// Why an attempt at a transaction failed, and whether another one may be made.
struct Broken {
    error: StoreError,
    may_repeat: bool,
}

impl Connections {
    pub(super) fn new(url: &str, clock: Clock) -> Result<Self> {
        let (mut config, tls) = tls::parse(url)?;
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SILENCE).keepalives_idle(SILENCE);
        Ok(Self {
            config,
            tls,
            clock,
            idle: Mutex::default(),
            returned: Condvar::new(),
            recovered_at: AtomicI64::new(0),
            is_lost: false.into(),
        })
    }

    /// When the database was last reached again after an outage.
    pub(super) fn recovered_at(&self) -> i64 {
        self.recovered_at.load(Ordering::Relaxed)
    }

    /// Runs a transaction; an error undoes all of it. `now` is the caller's time.
    pub(super) fn write<T>(
        &self,
        now: i64,
        work: impl Fn(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.repeat(|connection| {
            let mut transaction = begin(connection, self.clock, now)?;
            self.reached(transaction.now);
            let done = match work(&mut transaction) {
                Ok(done) => done,
                Err(error) => {
                    // On a dead connection there is nothing to undo.
                    connection.is_broken = connection.client.batch_execute("ROLLBACK").is_err();
                    let may_repeat = matches!(error, StoreError::Unavailable | StoreError::Busy);
                    return Err(Broken { error, may_repeat });
                }
            };
            let committed = connection.client.batch_execute("COMMIT");
            connection.is_broken = committed.is_err();
            committed.map_err(|error| Broken { error: error.into(), may_repeat: false })?;
            Ok(done)
        })
    }

    /// Runs statements that change nothing.
    pub(super) fn read<T>(&self, work: impl Fn(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.repeat(|connection| {
            let mut transaction = Transaction { connection, now: 0, ahead_ms: 0 };
            work(&mut transaction).map_err(|error| {
                let may_repeat = matches!(error, StoreError::Unavailable | StoreError::Busy);
                Broken { error, may_repeat }
            })
        })
    }

    fn repeat<T>(
        &self,
        attempt: impl Fn(&mut Connection) -> std::result::Result<T, Broken>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut conflicts = 0;
        loop {
            let broken = match self.attempt(&attempt, deadline) {
                Ok(done) => return Ok(done),
                Err(broken) => broken,
            };
            match broken.error {
                StoreError::Unavailable => self.is_lost.store(true, Ordering::Relaxed),
                StoreError::Busy => conflicts += 1,
                error => return Err(error),
            }
            if !broken.may_repeat || conflicts > MAX_CONFLICTS || Instant::now() > deadline {
                return Err(broken.error);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn attempt<T>(
        &self,
        attempt: &impl Fn(&mut Connection) -> std::result::Result<T, Broken>,
        deadline: Instant,
    ) -> std::result::Result<T, Broken> {
        let unreached = |error| Broken { error, may_repeat: true };
        let mut lent = self.take(deadline).map_err(unreached)?;
        match &mut lent.connection {
            Some(connection) => attempt(connection),
            None => Err(unreached(StoreError::Unavailable)),
        }
    }

    fn reached(&self, now: i64) {
        if self.is_lost.swap(false, Ordering::Relaxed) {
            self.recovered_at.store(now, Ordering::Relaxed);
        }
    }

    fn take(&self, deadline: Instant) -> Result<Lent<'_>> {
        let mut idle = self.lock();
        loop {
            while let Some(connection) = idle.connections.pop() {
                if !connection.client.is_closed() {
                    return Ok(Lent { connections: self, connection: Some(connection) });
                }
                idle.open -= 1;
            }
            if idle.open < MAX_CONNECTIONS {
                break;
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Err(StoreError::Busy);
            }
            let woken = self.returned.wait_timeout(idle, wait);
            idle = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        idle.open += 1;
        drop(idle);
        // From here on it is counted, and given back even if it cannot be made.
        let mut lent = Lent { connections: self, connection: None };
        lent.connection = Some(self.connect()?);
        Ok(lent)
    }

    fn connect(&self) -> Result<Connection> {
        let mut client = self.tls.connect(&self.config)?;
        client.batch_execute(SETTINGS)?;
        Ok(Connection { client, statements: HashMap::new(), is_broken: false })
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let is_whole = |connection: &Connection| {
            !connection.is_broken && !connection.client.is_closed() && !std::thread::panicking()
        };
        let mut idle = self.connections.lock();
        match self.connection.take() {
            Some(connection) if is_whole(&connection) => idle.connections.push(connection),
            _ => idle.open -= 1,
        }
        drop(idle);
        self.connections.returned.notify_one();
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // Clients say goodbye on a runtime of their own, which must not be begun within another one.
        let connections = std::mem::take(&mut self.lock().connections);
        let _ = std::thread::spawn(move || drop(connections)).join();
    }
}

fn begin(
    connection: &mut Connection,
    clock: Clock,
    now: i64,
) -> std::result::Result<Transaction<'_>, Broken> {
    let begun = connection.client.simple_query(BEGIN);
    let begun = begun.map_err(|error| Broken { error: error.into(), may_repeat: true })?;
    let time = begun.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i64>().ok(),
        _ => None,
    });
    let database_now = match clock {
        Clock::Database => time.unwrap_or(now),
        Clock::Caller => now,
    };
    Ok(Transaction { connection, now: database_now, ahead_ms: database_now - now })
}

/// A transaction under way.
pub(super) struct Transaction<'a> {
    connection: &'a mut Connection,
    /// The time it is made at.
    pub(super) now: i64,
    /// By how much that is later than the caller's time.
    ahead_ms: i64,
}

impl Transaction<'_> {
    /// A moment of the caller's, by the clock of the database.
    pub(super) fn at(&self, moment: i64) -> i64 {
        moment.saturating_add(self.ahead_ms)
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        Ok(self.connection.client.execute(&statement, values)?)
    }

    pub(super) fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let statement = self.prepared(sql)?;
        Ok(self.connection.client.query(&statement, values)?)
    }

    /// The first row, if there is one.
    pub(super) fn first(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// Rows of a statement whose text is made up and not worth being remembered.
    pub(super) fn query_once(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        Ok(self.connection.client.query(sql, values)?)
    }

    /// Waits until nobody else changes jobs that want the same result.
    pub(super) fn lock_group(&mut self, cache_key: &str) -> Result<()> {
        self.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&cache_key])?;
        Ok(())
    }

    /// Runs several statements without values.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        Ok(self.connection.client.batch_execute(sql)?)
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.connection.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.connection.client.prepare(sql)?;
        self.connection.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        let Some(state) = error.code() else {
            let is_network =
                std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
            let is_gone = error.is_closed() || is_network;
            return if is_gone { Self::Unavailable } else { Self::Database(Box::new(error)) };
        };
        let is_lost = *state == SqlState::ADMIN_SHUTDOWN
            || *state == SqlState::CRASH_SHUTDOWN
            || *state == SqlState::CANNOT_CONNECT_NOW
            || *state == SqlState::TOO_MANY_CONNECTIONS
            || *state == SqlState::READ_ONLY_SQL_TRANSACTION
            || state.code().starts_with("08");
        let is_conflict = *state == SqlState::T_R_SERIALIZATION_FAILURE
            || *state == SqlState::T_R_DEADLOCK_DETECTED
            || *state == SqlState::UNIQUE_VIOLATION
            || *state == SqlState::LOCK_NOT_AVAILABLE
            || *state == SqlState::QUERY_CANCELED;
        if is_lost {
            Self::Unavailable
        } else if is_conflict {
            Self::Busy
        } else if *state == SqlState::DISK_FULL {
            Self::Full
        } else if *state == SqlState::CHARACTER_NOT_IN_REPERTOIRE {
            Self::Unfit
        } else {
            Self::Database(Box::new(error))
        }
    }
}
