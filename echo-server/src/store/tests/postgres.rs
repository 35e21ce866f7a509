//! What only a server can do: be shared, and go away.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::postgres::connection::Clock;
use super::services::{Service, postgres, postgres_url};
use super::*;
use crate::clock::now_ms;

fn plain(server: &Service) -> ::postgres::Client {
    let url = postgres_url(server).replace("+asyncpg", "");
    ::postgres::Client::connect(&url, ::postgres::NoTls).unwrap()
}

/// A store without anything in it, in which time is the caller's.
pub(super) fn empty(server: &Service) -> Box<dyn Store> {
    plain(server).batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").unwrap();
    Box::new(PostgresStore::open_with(&postgres_url(server), true, Clock::Caller).unwrap())
}

#[test]
fn replicas_that_start_together_make_one_schema() {
    let Some(server) = postgres() else { return };
    let url = postgres_url(&server);
    assert!(PostgresStore::open(&url, false).is_err());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| PostgresStore::open(&url, true).unwrap());
        }
    });
    let store = PostgresStore::open(&url, false).unwrap();
    store.check().unwrap();
}

#[test]
fn a_program_works_with_the_schema_of_its_successor_if_that_says_so() {
    let Some(server) = postgres() else { return };
    let url = postgres_url(&server);
    PostgresStore::open(&url, true).unwrap();
    // As the next version may leave it: a column more, which this one knows nothing of.
    let successor = "UPDATE echo_schema SET version = version + 1;
        ALTER TABLE jobs ADD COLUMN mood TEXT";
    plain(&server).batch_execute(successor).unwrap();
    let schema = || plain(&server).query_one("SELECT version FROM echo_schema", &[]).unwrap();
    let newer: i64 = schema().get(0);
    let store = PostgresStore::open(&url, true).unwrap();
    store.submit(&new_job("a", "k"), now_ms()).unwrap();
    let claimed = claim(&store, now_ms()).unwrap();
    store.complete(&claimed.lease, Usage::default(), 1.0, now_ms()).unwrap();
    assert_eq!(schema().get::<_, i64>(0), newer);
    plain(&server).batch_execute("UPDATE echo_schema SET oldest = version").unwrap();
    assert!(PostgresStore::open(&url, true).is_err());
}

#[test]
fn a_lease_is_counted_by_the_clock_of_the_database() {
    let Some(server) = postgres() else { return };
    let store = PostgresStore::open(&postgres_url(&server), true).unwrap();
    // A replica whose clock is an hour late, and one whose clock is an hour early.
    let (late, early) = (now_ms() - 60 * MINUTE, now_ms() + 60 * MINUTE);
    let job = store.submit(&new_job("a", "k"), late).unwrap();
    assert!(job.created_at.abs_diff(now_ms().unsigned_abs() as i64) < 60_000);
    let claimed = claim(&store, late).unwrap();
    assert_eq!(store.sweep(early).unwrap(), Swept::default());
    store.complete(&claimed.lease, Usage::default(), 1.0, early).unwrap();
}

#[test]
fn an_outage_loses_no_job_and_no_lease() {
    let Some(mut server) = postgres() else { return };
    let url = postgres_url(&server);
    let stores = [(); 2].map(|()| PostgresStore::open(&url, true).unwrap());
    let (is_over, accepted, refused) =
        (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let lease_ms = 4000;
    std::thread::scope(|scope| {
        for store in &stores {
            let (is_over, accepted, refused) = (&is_over, &accepted, &refused);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let id = Uuid::now_v7().to_string();
                    match store.submit(&new_job("a", &id), now_ms()) {
                        Ok(_) => accepted.fetch_add(1, Ordering::Relaxed),
                        Err(StoreError::Unavailable) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error:?}"),
                    };
                }
            });
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    match store.sweep(now_ms()) {
                        Ok(_) | Err(StoreError::Unavailable) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let work = |limit: u32| {
            let began = Instant::now();
            while accepted.load(Ordering::Relaxed) < limit {
                assert!(began.elapsed() < Duration::from_secs(60), "no job is accepted");
            }
        };
        work(50);
        let now = now_ms();
        let claim = Claim { owner: "worker", until: now + lease_ms, resumes: true };
        let claimed = stores[0].claim(Phase::Run, &claim, now).unwrap().unwrap();
        for _ in 0..3 {
            server.kill();
            let began = Instant::now();
            let before = refused.load(Ordering::Relaxed);
            // Longer than the lease, and until somebody was refused.
            while began.elapsed() < Duration::from_millis(lease_ms as u64)
                || refused.load(Ordering::Relaxed) == before
            {
                assert!(began.elapsed() < Duration::from_secs(60), "nobody is refused");
            }
            server.revive();
            // Its holder lives, and is the first to be heard.
            let renewed =
                stores[0].renew(&claimed.lease, &Report::default(), now_ms() + lease_ms, now_ms());
            renewed.unwrap();
            work(accepted.load(Ordering::Relaxed) + 50);
            let renewed =
                stores[0].renew(&claimed.lease, &Report::default(), now_ms() + lease_ms, now_ms());
            renewed.unwrap();
        }
        stores[0].complete(&claimed.lease, Usage::default(), 1.0, now_ms()).unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    let kept: u64 = stores[1].counts().unwrap().iter().map(|(_, count)| count).sum();
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    println!("{accepted} accepted, {refused} refused, {kept} kept");
    // What was refused may be there nevertheless: its answer was lost on the way.
    assert!(kept >= u64::from(accepted) && kept <= u64::from(accepted + refused));
}
