//! The conformance suite of stores: what the contract promises, and a model that random histories are
//! compared with. Every database runs the same suite.

use serde_json::Map;
use uuid::Uuid;

use super::*;
use crate::job::{Callback, CallbackEvent, JobOptions, Source};

#[path = "../../tests/support/services.rs"]
#[allow(dead_code, unreachable_pub, reason = "of use to other tests")]
mod services;

mod checkpoints;
mod clock;
mod many;
mod postgres;

const MINUTE: i64 = 60_000;

/// Makes an empty store.
type New<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// Runs the suite on each database.
macro_rules! suite {
    ($($name:path),* $(,)?) => {
        #[test]
        fn sqlite_keeps_the_contract() {
            let new = || -> Box<dyn Store> { Box::new(SqliteStore::open(None, true).unwrap()) };
            $(println!("{}", stringify!($name));
            $name(&new);)*
        }

        /// One test, because starting a server costs more than most of the suite.
        #[test]
        fn postgres_keeps_the_contract() {
            let Some(server) = services::postgres() else { return };
            let new = || postgres::empty(&server);
            $(println!("{}", stringify!($name));
            $name(&new);)*
        }
    };
}

suite!(
    a_result_is_committed_once_and_only_under_the_newest_lease,
    a_job_that_kills_its_worker_fails_after_its_attempts,
    a_released_attempt_does_not_count_but_not_for_ever,
    the_same_sound_runs_once_and_ends_for_all,
    a_cancelled_leader_hands_its_run_over,
    a_running_job_is_asked_to_stop_and_a_new_like_runs_by_itself,
    a_passing_error_is_tried_again_later,
    tenants_see_nothing_of_each_other,
    who_runs_least_is_next,
    a_tenant_has_two_sources_fetched_at_once,
    a_source_that_came_after_its_cancellation_is_not_run,
    pages_by_cursor_have_no_gap_and_no_double,
    notes_of_the_client_are_found_as_text,
    purged_jobs_leave_what_others_need,
    an_idempotency_key_stands_for_one_answer,
    what_jobs_took_is_summed_by_day,
    a_waiting_job_is_announced_until_somebody_has_it,
    a_delivery_that_is_over_stays_so_whatever_came_of_an_older_try,
    a_rotation_is_of_one_tenant_and_counted,
    workers_are_seen_by_their_attempts,
    a_batch_is_complete_once_when_its_last_job_ends,
    a_batch_of_known_results_is_complete_at_once,
    checkpoints::the_next_attempt_goes_on_from_a_checkpoint,
    checkpoints::what_cannot_be_gone_on_from_is_told_anew,
    checkpoints::an_heir_goes_on_from_the_checkpoint_of_its_leader,
    checkpoints::a_job_that_is_over_has_no_checkpoint,
    any_history_keeps_the_promises,
    many::many_at_once_do_each_job_once,
    many::the_same_sound_at_once_runs_once,
    many::the_last_jobs_of_a_batch_at_once_complete_it_once,
);

fn new_job(tenant: &str, cache_key: &str) -> NewJob {
    NewJob {
        id: Uuid::now_v7().to_string(),
        tenant: tenant.to_owned(),
        priority: 0,
        options: JobOptions::default(),
        source: Source { kind: "file".to_owned(), ..Source::default() },
        blob: Some(Fetched {
            hash: format!("sound of {cache_key}"),
            size_bytes: 1,
            media_type: "audio/wav".to_owned(),
            cache_key: cache_key.to_owned(),
        }),
        callback: Some(Callback {
            url: "https://receiver.example/".to_owned(),
            events: vec![CallbackEvent::Completed, CallbackEvent::Failed, CallbackEvent::Cancelled],
            include_result: false,
            sealed_secret: None,
        }),
        metadata: Map::new(),
        external_id: None,
        retry_of: None,
        traceparent: None,
        batch_id: None,
        max_attempts: 3,
    }
}

fn claim(store: &dyn Store, now: i64) -> Option<Claimed> {
    store
        .claim(Phase::Run, &Claim { owner: "worker", until: now + MINUTE, resumes: true }, now)
        .unwrap()
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(StoreError::Fenced))
}

fn a_result_is_committed_once_and_only_under_the_newest_lease(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 1).unwrap();
    let first = claim(store, 2).unwrap();
    assert_eq!((first.job.id.as_str(), first.job.attempt), (job.id.as_str(), 1));
    assert!(claim(store, 3).is_none());
    // The lease runs out; another worker gets the job; the first one wakes up.
    assert_eq!(store.sweep(2 + 2 * MINUTE).unwrap().requeued, std::slice::from_ref(&job.id));
    let second = claim(store, 3 * MINUTE).unwrap();
    assert!(second.job.epoch > first.job.epoch);
    assert!(is_fenced(store.complete(&first.lease, Usage::default(), 1.0, 4 * MINUTE)));
    assert!(is_fenced(store.renew(&first.lease, &Report::default(), 9 * MINUTE, 4 * MINUTE)));
    let done = store.complete(&second.lease, Usage::default(), 1.0, 4 * MINUTE).unwrap();
    assert_eq!((done.state, done.attempt, done.commits), (State::Completed, 2, 1));
    assert!(is_fenced(store.complete(&second.lease, Usage::default(), 1.0, 5 * MINUTE)));
    assert_eq!(store.deliveries("a", &job.id).unwrap().len(), 1);
}

fn a_job_that_kills_its_worker_fails_after_its_attempts(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    for attempt in 1..=3 {
        assert_eq!(claim(store, attempt * 10 * MINUTE).unwrap().job.attempt, attempt as u32);
        store.lose("worker", attempt * 10 * MINUTE + 1).unwrap();
        store.sweep(attempt * 10 * MINUTE + 2).unwrap();
    }
    let job = store.job("a", &job.id).unwrap().unwrap();
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "worker_lost"));
    assert_eq!(store.attempts(&job.id).unwrap().len(), 3);
}

fn a_released_attempt_does_not_count_but_not_for_ever(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    for turn in 0..10 {
        let claimed = claim(store, turn).unwrap();
        assert_eq!(claimed.job.attempt, 1);
        let released = store.release(&claimed.lease, turn).unwrap();
        assert_eq!((released.state, released.attempt), (State::Pending, 0));
        assert!(is_fenced(store.complete(&claimed.lease, Usage::default(), 1.0, turn)));
    }
    for turn in 0..3 {
        let claimed = claim(store, 100 + turn).unwrap();
        store.release(&claimed.lease, 100 + turn).unwrap();
    }
    assert_eq!(store.job("a", &job.id).unwrap().unwrap().state, State::Failed);
}

fn the_same_sound_runs_once_and_ends_for_all(new: New) {
    let store = &*new();
    let leader = store.submit(&new_job("a", "k"), 0).unwrap();
    let follower = store.submit(&new_job("a", "k"), 1).unwrap();
    assert_eq!(follower.leader_id.as_deref(), Some(leader.id.as_str()));
    let claimed = claim(store, 2).unwrap();
    assert!(claim(store, 2).is_none());
    store.complete(&claimed.lease, Usage::default(), 2.0, 3).unwrap();
    let follower = store.job("a", &follower.id).unwrap().unwrap();
    assert_eq!((follower.state, follower.is_cached), (State::Completed, true));
    let later = store.submit(&new_job("a", "k"), 4).unwrap();
    assert_eq!((later.state, later.commits), (State::Completed, 1));
    assert_eq!(later.source.duration_seconds, Some(2.0));
}

fn a_cancelled_leader_hands_its_run_over(new: New) {
    let store = &*new();
    let leader = store.submit(&new_job("a", "k"), 0).unwrap();
    let heir = store.submit(&new_job("a", "k"), 1).unwrap();
    let third = store.submit(&new_job("a", "k"), 2).unwrap();
    let claimed = claim(store, 3).unwrap();
    let answer = store.cancel("a", &leader.id, false, 4).unwrap().unwrap();
    assert!(matches!(answer, Cancellation::Done(job) if job.state == State::Cancelled));
    let renewed = store.renew(&claimed.lease, &Report::default(), MINUTE, 5).unwrap();
    assert_eq!((renewed.job_id.as_str(), renewed.is_cancel_requested), (heir.id.as_str(), false));
    let done = store.complete(&claimed.lease, Usage::default(), 1.0, 6).unwrap();
    assert_eq!(done.id, heir.id);
    assert_eq!(store.job("a", &third.id).unwrap().unwrap().state, State::Completed);
}

fn a_running_job_is_asked_to_stop_and_a_new_like_runs_by_itself(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    let claimed = claim(store, 1).unwrap();
    assert!(matches!(
        store.cancel("a", &job.id, false, 2).unwrap(),
        Some(Cancellation::Asked(job)) if job.is_cancel_requested
    ));
    let another = store.submit(&new_job("a", "k"), 3).unwrap();
    assert_eq!(another.leader_id, None);
    assert!(
        store.renew(&claimed.lease, &Report::default(), MINUTE, 4).unwrap().is_cancel_requested
    );
    assert_eq!(store.cancelled(&claimed.lease, 5).unwrap().state, State::Cancelled);
    assert!(matches!(
        store.cancel("a", &job.id, false, 6).unwrap(),
        Some(Cancellation::Finished(_))
    ));
}

fn a_passing_error_is_tried_again_later(new: New) {
    let store = &*new();
    store.submit(&new_job("a", "k"), 0).unwrap();
    let claimed = claim(store, 1).unwrap();
    let error = JobError::passing("engine_failed", "x");
    assert_eq!(store.fail(&claimed.lease, &error, 2).unwrap().state, State::Pending);
    assert!(claim(store, 7_000).is_none());
    let claimed = claim(store, 13_000).unwrap();
    let error = JobError::lasting("decode_failed", "x");
    assert_eq!(store.fail(&claimed.lease, &error, 13_001).unwrap().state, State::Failed);
}

fn tenants_see_nothing_of_each_other(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    assert!(store.job("b", &job.id).unwrap().is_none());
    assert!(store.cancel("b", &job.id, true, 1).unwrap().is_none());
    assert!(store.purge("b", &job.id, 1).unwrap().is_none());
    assert!(store.deliveries("b", &job.id).unwrap().is_empty());
    assert!(
        store.list("b", &ListQuery { limit: 10, ..ListQuery::default() }).unwrap().jobs.is_empty()
    );
    assert_eq!(store.load("b").unwrap().of_tenant, 0);
}

fn who_runs_least_is_next(new: New) {
    let store = &*new();
    for n in 0..4 {
        store.submit(&new_job("greedy", &format!("g{n}")), n).unwrap();
    }
    store.submit(&new_job("small", "s"), 10).unwrap();
    assert_eq!(claim(store, 20).unwrap().job.tenant, "greedy");
    assert_eq!(claim(store, 20).unwrap().job.tenant, "small");
    let urgent = NewJob { priority: 1, ..new_job("greedy", "urgent") };
    store.submit(&urgent, 30).unwrap();
    assert_eq!(claim(store, 31).unwrap().job.id, urgent.id);
}

/// A job whose sound is to be fetched.
fn new_source(tenant: &str) -> NewJob {
    NewJob { blob: None, ..new_job(tenant, "") }
}

fn claim_source(store: &dyn Store, now: i64) -> Option<Claimed> {
    let claim = Claim { owner: "fetch", until: now + MINUTE, resumes: false };
    store.claim(Phase::Fetch, &claim, now).unwrap()
}

fn a_tenant_has_two_sources_fetched_at_once(new: New) {
    let store = &*new();
    for n in 0..4 {
        store.submit(&new_source("greedy"), n).unwrap();
    }
    store.submit(&new_source("small"), 10).unwrap();
    let claimed: Vec<_> = (0..4).filter_map(|_| claim_source(store, 20)).collect();
    let tenants: Vec<_> = claimed.iter().map(|claimed| &*claimed.job.tenant).collect();
    assert_eq!(tenants, ["greedy", "small", "greedy"]);
    // What runs does not count, and what is over does not.
    let blob = new_job("greedy", "k").blob.unwrap();
    store.fetched(&claimed[0].lease, &blob, 21).unwrap();
    assert_eq!(claim(store, 22).unwrap().job.tenant, "greedy");
    assert_eq!(claim_source(store, 23).unwrap().job.tenant, "greedy");
    assert!(claim_source(store, 24).is_none());
}

fn a_source_that_came_after_its_cancellation_is_not_run(new: New) {
    let store = &*new();
    for cache_key in ["new", "known"] {
        if cache_key == "known" {
            store.submit(&new_job("a", cache_key), 0).unwrap();
            let known = claim(store, 1).unwrap();
            store.complete(&known.lease, Usage::default(), 1.0, 2).unwrap();
        }
        let job = store.submit(&new_source("a"), 3).unwrap();
        let claimed = claim_source(store, 4).unwrap();
        store.cancel("a", &job.id, false, 5).unwrap();
        let blob = new_job("a", cache_key).blob.unwrap();
        let ended = store.fetched(&claimed.lease, &blob, 6).unwrap();
        assert_eq!((ended.state, ended.commits), (State::Cancelled, 0), "{cache_key}");
    }
}

fn pages_by_cursor_have_no_gap_and_no_double(new: New) {
    let store = &*new();
    let mut all = Vec::new();
    for n in 0..55 {
        // Several jobs share a time.
        all.push(store.submit(&new_job("a", &n.to_string()), n / 10).unwrap().id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery { limit: 7, after: after.take(), ..ListQuery::default() };
        let page = store.list("a", &query).unwrap();
        store.submit(&new_job("a", &Uuid::now_v7().to_string()), 100).unwrap();
        after = page.jobs.last().map(|job| (job.created_at, job.id.clone()));
        seen.extend(page.jobs.into_iter().map(|job| job.id));
        if !page.has_more {
            break;
        }
    }
    seen.sort();
    all.sort();
    assert_eq!(seen, all);
}

fn notes_of_the_client_are_found_as_text(new: New) {
    let store = &*new();
    let notes =
        serde_json::json!({"n": 42, "x": 1.5, "yes": true, "no": false, "t": "07", "z": null});
    let serde_json::Value::Object(metadata) = notes else { unreachable!() };
    let id = store.submit(&NewJob { metadata, ..new_job("a", "k") }, 0).unwrap().id;
    let found = |key: &str, value: &str| {
        let metadata = vec![(key.to_owned(), value.to_owned())];
        let query = ListQuery { limit: 9, metadata, ..ListQuery::default() };
        store.list("a", &query).unwrap().jobs.iter().any(|job| job.id == id)
    };
    for (key, value) in [("n", "42"), ("x", "1.5"), ("yes", "true"), ("no", "false"), ("t", "07")] {
        assert!(found(key, value), "{key} {value}");
    }
    for (key, value) in
        [("n", "42.0"), ("yes", "1"), ("t", "7"), ("z", "null"), ("z", ""), ("o", "")]
    {
        assert!(!found(key, value), "{key} {value}");
    }
}

fn purged_jobs_leave_what_others_need(new: New) {
    let store = &*new();
    let one = store.submit(&new_job("a", "k"), 0).unwrap();
    let claimed = claim(store, 1).unwrap();
    store.complete(&claimed.lease, Usage::default(), 1.0, 2).unwrap();
    let two = store.submit(&new_job("a", "k"), 3).unwrap();
    assert_eq!(store.purge("a", &one.id, 4).unwrap(), Some(Orphans::default()));
    let orphans = store.purge("a", &two.id, 5).unwrap().unwrap();
    assert_eq!(orphans.results, ["k"]);
    assert_eq!(orphans.blobs, ["sound of k"]);
    let three = store.submit(&new_job("a", "k"), 6).unwrap();
    assert_eq!(three.state, State::Pending);
}

fn an_idempotency_key_stands_for_one_answer(new: New) {
    let store = &*new();
    let key = RequestKey { tenant: "a", route: "upload", key: "x" };
    assert!(matches!(store.reserve_key(&key, 0).unwrap(), Reserved::Fresh));
    assert!(matches!(store.reserve_key(&key, 1).unwrap(), Reserved::InProgress));
    let answer =
        Answered { fingerprint: "f".into(), status: 202, job_id: "j".into(), body: "{}".into() };
    store.keep_answer(&key, Some(&answer), 2).unwrap();
    assert!(
        matches!(store.reserve_key(&key, 3).unwrap(), Reserved::Answered(a) if a.job_id == "j")
    );
    let day = 25 * 60 * MINUTE;
    assert!(matches!(store.reserve_key(&key, day).unwrap(), Reserved::Fresh));
    // It is answered with its job, or there is no job.
    let answer = |id: &str| {
        let id = id.to_owned();
        let told = move |jobs: &[Job]| {
            let job_id = format!("{id} {}", jobs.len());
            let body = jobs[0].id.clone();
            Some(Answered { fingerprint: "f".into(), status: 202, job_id, body })
        };
        let (tenant, key) = ("a".to_owned(), "y".to_owned());
        Answer { tenant, route: "upload", key, told: Box::new(told) }
    };
    let other = RequestKey { key: "y", ..key };
    assert!(matches!(store.reserve_key(&other, 0).unwrap(), Reserved::Fresh));
    let job = store.submit_answered(&new_job("a", "k"), Some(&answer("1")), 1).unwrap();
    store.keep_answer(&other, None, 2).unwrap();
    let known = store.reserve_key(&other, 3).unwrap();
    let is_first =
        |known| matches!(known, Reserved::Answered(a) if (&*a.job_id, &a.body) == ("1 1", &job.id));
    assert!(is_first(known));
    let second = store.submit_answered(&new_job("a", "l"), Some(&answer("2")), 4);
    assert!(matches!(second, Err(StoreError::KeyUsed)), "{second:?}");
    let jobs = [job_of_batch("b", "m")];
    let third = store.submit_batch_answered(&new_batch("b"), &jobs, Some(&answer("3")), 5);
    assert!(matches!(third, Err(StoreError::KeyUsed)), "{third:?}");
    assert_eq!(store.load("a").unwrap().pending, 1);
    assert!(is_first(store.reserve_key(&other, 6).unwrap()));
    // A request that died leaves its key for ten minutes.
    assert!(matches!(store.reserve_key(&key, day + 11 * MINUTE).unwrap(), Reserved::Fresh));
}

fn what_jobs_took_is_summed_by_day(new: New) {
    const DAY: i64 = 24 * 60 * MINUTE;
    let store = &*new();
    let usage = Usage { audio_seconds: 90.0, busy_seconds: 3.5 };
    for (key, at) in [("a", 1), ("b", DAY - 1), ("c", DAY)] {
        store.submit(&new_job("a", key), at).unwrap();
        let claimed = claim(store, at).unwrap();
        store.complete(&claimed.lease, usage, 90.0, at).unwrap();
    }
    // From the result of another one, and of another tenant.
    store.submit(&new_job("a", "c"), DAY).unwrap();
    store.submit(&new_job("b", "d"), 2).unwrap();
    store.complete(&claim(store, 2).unwrap().lease, usage, 90.0, 2).unwrap();
    let days = store.usage("a", 0, 2 * DAY).unwrap();
    let is = |day: &str, jobs, cached_jobs, audio_seconds, busy_seconds| DayUsage {
        day: day.to_owned(),
        jobs,
        cached_jobs,
        audio_seconds,
        busy_seconds,
    };
    assert_eq!(days, [is("1970-01-01", 2, 0, 180.0, 7.0), is("1970-01-02", 2, 1, 180.0, 3.5)]);
    assert_eq!(store.usage("a", 2, DAY).unwrap(), [is("1970-01-01", 1, 0, 90.0, 3.5)]);
    assert!(store.usage("c", 0, DAY).unwrap().is_empty());
}

fn a_waiting_job_is_announced_until_somebody_has_it(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    store.submit(&new_job("a", "k"), 1).unwrap();
    let urgent = NewJob { priority: 1, ..new_job("a", "urgent") };
    store.submit(&urgent, 2).unwrap();
    let waiting = store.unannounced(10, 3).unwrap();
    let ids: Vec<_> = waiting.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, [&*urgent.id, &*job.id]);
    // Claimed before it was noted: an announcement of another epoch says nothing.
    let claimed = store
        .claim_job(&urgent.id, &Claim { owner: "w", until: MINUTE, resumes: true }, 4)
        .unwrap()
        .unwrap();
    store.announced(&waiting, 5).unwrap();
    assert!(store.unannounced(10, 6).unwrap().is_empty());
    store.release(&claimed.lease, 7).unwrap();
    assert_eq!(store.unannounced(10, 8).unwrap()[0].epoch, 1);
    assert_eq!(store.forget_announcements(Some(5), 9).unwrap(), 0);
    assert_eq!(store.forget_announcements(None, 9).unwrap(), 1);
    assert_eq!(store.unannounced(10, 10).unwrap().len(), 2);
}

fn new_batch(id: &str) -> NewBatch {
    NewBatch {
        id: id.to_owned(),
        tenant: "a".to_owned(),
        callback: new_job("a", "k").callback,
        traceparent: None,
    }
}

fn job_of_batch(batch: &str, cache_key: &str) -> NewJob {
    NewJob { batch_id: Some(batch.to_owned()), callback: None, ..new_job("a", cache_key) }
}

/// Batches that somebody has to be told of.
fn told(store: &dyn Store, now: i64) -> Vec<Batch> {
    let due = store.due_deliveries(100, now, now).unwrap();
    let batch = |due: Due| match due.about {
        About::Batch(batch) => Some(*batch),
        About::Job(_) => None,
    };
    due.into_iter().filter_map(batch).collect()
}

fn a_batch_is_complete_once_when_its_last_job_ends(new: New) {
    let store = &*new();
    let jobs: Vec<NewJob> =
        ["k", "k", "l", "m"].iter().map(|key| job_of_batch("b1", key)).collect();
    let jobs = store.submit_batch(&new_batch("b1"), &jobs, 1).unwrap();
    store.submit(&new_job("a", "z"), 2).unwrap();
    // The first has a follower, which ends with it.
    store.complete(&claim(store, 3).unwrap().lease, Usage::default(), 1.0, 4).unwrap();
    let held = claim(store, 5).unwrap();
    let error = JobError::lasting("decode_failed", "x");
    assert_eq!(store.fail(&held.lease, &error, 6).unwrap().state, State::Failed);
    let open = store.batch("a", "b1").unwrap().unwrap();
    let mut counts = open.counts.clone();
    counts.sort_by_key(|(state, _)| state.as_str());
    assert_eq!(counts, [(State::Completed, 2), (State::Failed, 1), (State::Pending, 1)]);
    assert_eq!((open.completed_at, told(store, 7).len()), (None, 0));
    store.cancel("a", &jobs[3].id, false, 8).unwrap().unwrap();
    let done = store.batch("a", "b1").unwrap().unwrap();
    assert_eq!(done.completed_at, Some(8));
    assert_eq!(told(store, 9), [done]);
    store.cancel("a", &jobs[3].id, false, 10).unwrap().unwrap();
    assert_eq!(told(store, 11).len(), 1, "the same delivery, not another one");
    // Nobody else's business, and not mixed with other jobs.
    assert!(store.batch("b", "b1").unwrap().is_none() && store.batch("a", "b2").unwrap().is_none());
    let query = ListQuery { limit: 10, batch_id: Some("b1".to_owned()), ..ListQuery::default() };
    assert_eq!(store.list("a", &query).unwrap().jobs.len(), 4);
    assert!(store.list("b", &query).unwrap().jobs.is_empty());
    // Long after, its receiver is forgotten.
    store.expire(&Horizon { results: Some(100), now: 200, ..Horizon::default() }).unwrap();
    assert!(store.batch("a", "b1").unwrap().unwrap().callback.is_none());
    assert!(told(store, 300).is_empty());
}

fn a_batch_of_known_results_is_complete_at_once(new: New) {
    let store = &*new();
    store.submit(&new_job("a", "k"), 1).unwrap();
    store.complete(&claim(store, 2).unwrap().lease, Usage::default(), 1.0, 3).unwrap();
    let jobs = [job_of_batch("b1", "k"), job_of_batch("b1", "k")];
    let jobs = store.submit_batch(&new_batch("b1"), &jobs, 4).unwrap();
    assert!(jobs.iter().all(|job| job.state == State::Completed && job.is_cached));
    assert_eq!(store.batch("a", "b1").unwrap().unwrap().completed_at, Some(4));
    assert_eq!(told(store, 5).len(), 1);
    // One whose items were all refused.
    store.submit_batch(&new_batch("b2"), &[], 6).unwrap();
    assert_eq!(store.batch("a", "b2").unwrap().unwrap().completed_at, Some(6));
    // All jobs or none: an id that is taken undoes the others.
    let fresh = job_of_batch("b3", "n");
    let taken = NewJob { id: jobs[0].id.clone(), ..job_of_batch("b3", "o") };
    store.submit_batch(&new_batch("b3"), &[fresh.clone(), taken], 7).unwrap_err();
    assert!(store.job("a", &fresh.id).unwrap().is_none());
    assert!(store.batch("a", "b3").unwrap().is_none());
}

fn a_delivery_that_is_over_stays_so_whatever_came_of_an_older_try(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 1).unwrap();
    let claimed = claim(store, 2).unwrap();
    store.complete(&claimed.lease, Usage::default(), 1.0, 3).unwrap();
    let due = store.due_deliveries(9, 4, 5).unwrap().remove(0);
    // Taken again, because whoever has it is slow.
    let again = store.due_deliveries(9, 6, 7).unwrap().remove(0);
    assert_eq!((&again.id, again.tries), (&due.id, 0));
    let tried = |state, tries| Tried {
        id: due.id.clone(),
        tries,
        note: Try { at: String::new(), status: None, latency_ms: 1, error: None },
        state,
        next_at: (state == DeliveryState::Pending).then_some(8),
    };
    let seen = || store.deliveries("a", &job.id).unwrap().remove(0);
    store.put_off_deliveries(&[(again, 7)], 6).unwrap();
    assert!(store.due_deliveries(9, 6, 7).unwrap().is_empty());
    store.delivery_tried(&tried(DeliveryState::Pending, 0), 8).unwrap();
    store.delivery_tried(&tried(DeliveryState::Pending, 0), 8).unwrap();
    assert_eq!(seen().tries.as_array().map(Vec::len), Some(1), "one try, noted once");
    store.delivery_tried(&tried(DeliveryState::Delivered, 1), 9).unwrap();
    store.delivery_tried(&tried(DeliveryState::Pending, 1), 10).unwrap();
    store.put_off_deliveries(&[(due.clone(), 11)], 10).unwrap();
    assert_eq!((seen().state.as_str(), seen().next_at), ("delivered", None));
    assert!(store.due_deliveries(9, 12, 13).unwrap().is_empty());
}

fn a_rotation_is_of_one_tenant_and_counted(new: New) {
    let store = &*new();
    assert_eq!(store.rotation("a").unwrap(), Rotation::default());
    assert_eq!(store.rotate("a", 5).unwrap(), Rotation { count: 1, at: Some(5) });
    assert_eq!(store.rotate("a", 9).unwrap(), Rotation { count: 2, at: Some(9) });
    assert_eq!(store.rotation("a").unwrap(), Rotation { count: 2, at: Some(9) });
    assert_eq!(store.rotation("b").unwrap(), Rotation::default());
}

fn workers_are_seen_by_their_attempts(new: New) {
    let store = &*new();
    let traced = NewJob { traceparent: Some("00-1-2-01".to_owned()), ..new_job("a", "k") };
    let first = store.submit(&traced, 0).unwrap();
    store.complete(&claim(store, 10).unwrap().lease, Usage::default(), 1.0, 20).unwrap();
    store.submit(&new_job("b", "l"), 30).unwrap();
    let held = claim(store, 40).unwrap();
    let seen = |since| {
        let all = store.workers(since).unwrap();
        all.into_iter().map(|one| (one.worker_id, one.running, one.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(seen(0), [("worker".to_owned(), 1, 2)]);
    // However long ago it began, what is under way is seen.
    assert_eq!(seen(1000), [("worker".to_owned(), 1, 1)]);
    store.complete(&held.lease, Usage::default(), 1.0, 50).unwrap();
    assert!(seen(1000).is_empty());
    let (job, attempts) = store.history(&first.id).unwrap().unwrap();
    assert_eq!((job.traceparent.as_deref(), attempts.len()), (Some("00-1-2-01"), 1));
    assert!(store.history("nobody's").unwrap().is_none());
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Random histories of several workers, several jobs and a clock that jumps.
///
/// Leases are remembered for ever and used again at any time, as zombies would. Whatever happens: a
/// final state stays, a result is committed at most once, attempts stay within their budget, epochs
/// grow, a job's end is delivered exactly once, and in the end every job ends.
fn any_history_keeps_the_promises(new: New) {
    for seed in 1..=25 {
        let (kept, mut random, mut now) =
            (new(), Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15)), 0);
        let store = &*kept;
        let (mut jobs, mut leases): (Vec<Job>, Vec<Claimed>) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            now += random.below(20_000) as i64;
            step(store, &mut random, now, &mut jobs, &mut leases);
            check(store, &mut jobs);
        }
        for _ in 0..200 {
            now += 10 * MINUTE;
            store.sweep(now).unwrap();
            while let Some(claimed) = claim(store, now) {
                store.complete(&claimed.lease, Usage::default(), 1.0, now).unwrap();
            }
        }
        check(store, &mut jobs);
        for job in &jobs {
            assert!(job.state.is_final(), "seed {seed}: {job:?}");
            assert_eq!(store.deliveries("a", &job.id).unwrap().len(), 1, "seed {seed}");
        }
    }
}

fn step(
    store: &dyn Store,
    random: &mut Random,
    now: i64,
    jobs: &mut Vec<Job>,
    leases: &mut Vec<Claimed>,
) {
    let lease = (!leases.is_empty()).then(|| leases[random.below(leases.len())].lease.clone());
    match (random.below(10), lease) {
        (0 | 1, _) if jobs.len() < 12 => {
            let key = random.below(5).to_string();
            jobs.push(store.submit(&new_job("a", &key), now).unwrap());
        }
        (2, _) if !jobs.is_empty() => {
            let id = &jobs[random.below(jobs.len())].id;
            store.cancel("a", id, false, now).unwrap().unwrap();
        }
        (3, _) => drop(store.sweep(now).unwrap()),
        (4, Some(lease)) => drop(store.renew(&lease, &Report::default(), now + MINUTE, now)),
        (5, Some(lease)) => drop(store.complete(&lease, Usage::default(), 1.0, now)),
        (6, Some(lease)) => {
            let retryable = random.below(2) == 0;
            let error = JobError { code: "x".into(), message: "x".into(), retryable };
            drop(store.fail(&lease, &error, now));
        }
        (7, Some(lease)) => drop(store.release(&lease, now)),
        (8, Some(lease)) => drop(store.cancelled(&lease, now)),
        _ => leases.extend(claim(store, now)),
    }
}

/// Compares every job with what was known of it before.
fn check(store: &dyn Store, jobs: &mut [Job]) {
    for known in jobs {
        let job = store.job("a", &known.id).unwrap().unwrap();
        if known.state.is_final() {
            assert_eq!(job.state, known.state);
        }
        assert!(job.epoch >= known.epoch && job.attempt <= job.max_attempts);
        assert_eq!(job.commits, u32::from(job.state == State::Completed));
        assert!(job.state != State::Processing || job.leader_id.is_none());
        *known = job;
    }
}
