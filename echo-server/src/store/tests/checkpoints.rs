//! What is done of a job: kept under its lease, told once, handed over, forgotten at its end.

use serde_json::{Value, json};

use super::*;

/// A report of segments from number `first` on, and of all until there as done if `is_done`.
fn report(first: u64, count: u64, is_done: bool) -> Report {
    let until = first + count;
    let part = CheckpointPart { reached_s: until as f64, data: json!(until).to_string() };
    Report {
        segments: Some((first..until).map(|n| json!({ "n": n })).collect()),
        first_segment: Some(first),
        checkpoints: is_done.then_some(part).into_iter().collect(),
        ..Report::default()
    }
}

/// What a reader of a job's events sees: numbers of segments, and restarts as -1.
fn told(store: &dyn Store, id: &str) -> Vec<i64> {
    let events = store.events(id, 0).unwrap();
    let numbers = events.iter().flat_map(|event| match event.kind.as_str() {
        "segments" => {
            let all = event.data.as_array().into_iter().flatten();
            all.filter_map(|segment| segment["n"].as_i64()).collect()
        }
        "restart" => vec![-1],
        _ => Vec::new(),
    });
    numbers.collect()
}

fn renew(store: &dyn Store, claimed: &Claimed, report: &Report) {
    store.renew(&claimed.lease, report, 100 * MINUTE, 5).unwrap();
}

pub(super) fn the_next_attempt_goes_on_from_a_checkpoint(new: New) {
    let store = &*new();
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    let first = claim(store, 1).unwrap();
    assert_eq!(first.resumes_at, None);
    renew(store, &first, &report(0, 2, false));
    renew(store, &first, &report(2, 3, true));
    renew(store, &first, &report(5, 2, false));
    store.lose("worker", 10).unwrap();
    store.sweep(11).unwrap();
    let second = claim(store, 12).unwrap();
    assert_eq!((second.job.attempt, second.resumes_at), (2, Some(5.0)));
    assert_eq!(store.checkpoints(&second.lease).unwrap(), ["5"]);
    // Who lost the lease adds nothing to it, and is told nothing.
    assert!(is_fenced(store.renew(&first.lease, &report(7, 1, true), MINUTE, 13)));
    assert!(is_fenced(store.checkpoints(&first.lease)));
    // What was told after the checkpoint is not told again.
    renew(store, &second, &report(5, 1, false));
    renew(store, &second, &report(6, 3, true));
    let released = store.release(&second.lease, 20).unwrap();
    assert_eq!(released.state, State::Pending);
    let third = claim(store, 21).unwrap();
    assert_eq!(third.resumes_at, Some(9.0));
    assert_eq!(store.checkpoints(&third.lease).unwrap(), ["5", "9"]);
    renew(store, &third, &report(9, 1, false));
    store.complete(&third.lease, Usage::default(), 1.0, 22).unwrap();
    assert_eq!(told(store, &job.id), (0..10).collect::<Vec<_>>());
    assert!(is_fenced(store.checkpoints(&third.lease)));
}

pub(super) fn what_cannot_be_gone_on_from_is_told_anew(new: New) {
    let store = &*new();
    // Lost before there was a checkpoint.
    let job = store.submit(&new_job("a", "k"), 0).unwrap();
    let claimed = claim(store, 1).unwrap();
    renew(store, &claimed, &report(0, 2, false));
    store.release(&claimed.lease, 2).unwrap();
    let claimed = claim(store, 3).unwrap();
    assert_eq!(claimed.resumes_at, None);
    renew(store, &claimed, &report(0, 1, true));
    assert_eq!(told(store, &job.id), [-1, 0]);
    store.release(&claimed.lease, 4).unwrap();
    // A worker that has another model.
    let claimed = claim(store, 5).unwrap();
    renew(store, &claimed, &Report { is_restart: true, ..report(0, 1, false) });
    assert_eq!(told(store, &job.id), [-1, -1, 0]);
    assert!(store.checkpoints(&claimed.lease).unwrap().is_empty());
    renew(store, &claimed, &report(1, 1, true));
    store.release(&claimed.lease, 6).unwrap();
    // One that knows nothing of checkpoints, and does not count segments.
    let claim = Claim { owner: "old", until: 100 * MINUTE, resumes: false };
    let claimed = store.claim_job(&job.id, &claim, 7).unwrap().unwrap();
    assert_eq!(claimed.resumes_at, None);
    assert!(store.checkpoints(&claimed.lease).unwrap().is_empty());
    let uncounted = |first| Report { first_segment: None, ..report(first, 1, false) };
    renew(store, &claimed, &uncounted(0));
    renew(store, &claimed, &uncounted(1));
    assert_eq!(told(store, &job.id), [-1, -1, -1, 0, 1]);
}

pub(super) fn an_heir_goes_on_from_the_checkpoint_of_its_leader(new: New) {
    for is_running in [true, false] {
        let store = &*new();
        let leader = store.submit(&new_job("a", "k"), 0).unwrap();
        let heir = store.submit(&new_job("a", "k"), 1).unwrap();
        let claimed = claim(store, 2).unwrap();
        renew(store, &claimed, &report(0, 3, true));
        if !is_running {
            store.release(&claimed.lease, 3).unwrap();
        }
        store.cancel("a", &leader.id, false, 4).unwrap().unwrap();
        if is_running {
            renew(store, &claimed, &report(3, 1, true));
            store.lose("worker", 5).unwrap();
            store.sweep(6).unwrap();
        }
        let claimed = claim(store, 7).unwrap();
        assert_eq!(claimed.job.id, heir.id);
        let (resumes_at, n_told) = if is_running { (4.0, 4) } else { (3.0, 3) };
        assert_eq!(claimed.resumes_at, Some(resumes_at));
        renew(store, &claimed, &report(n_told, 1, false));
        assert_eq!(told(store, &heir.id), (0..=n_told as i64).collect::<Vec<_>>());
    }
}

pub(super) fn a_job_that_is_over_has_no_checkpoint(new: New) {
    let store = &*new();
    let error = JobError::lasting("x", "x");
    for end in 0..3 {
        let job = store.submit(&new_job("a", &end.to_string()), 0).unwrap();
        let claimed = claim(store, 1).unwrap();
        renew(store, &claimed, &report(0, 2, true));
        match end {
            0 => drop(store.fail(&claimed.lease, &error, 2).unwrap()),
            1 => {
                store.cancel("a", &job.id, false, 2).unwrap();
                store.cancelled(&claimed.lease, 3).unwrap();
            }
            _ => {
                store.release(&claimed.lease, 2).unwrap();
                store.cancel("a", &job.id, false, 3).unwrap();
            }
        }
        let job = store.job("a", &job.id).unwrap().unwrap();
        assert!(job.state.is_final(), "{job:?}");
        // Its segments are void with it.
        assert_eq!(told(store, &job.id), [-1]);
    }
    let horizon = Horizon { now: 4, ..Horizon::default() };
    assert_eq!(store.expire(&horizon).unwrap(), Expired::default());
}

/// A report that waits while the database is away is told with what follows.
#[test]
fn reports_add_up() {
    let mut all = report(0, 2, true);
    all.add(Report { progress: Some(0.5), ..Report::default() });
    all.add(report(2, 1, true));
    assert_eq!((all.progress, all.first_segment, all.checkpoints.len()), (Some(0.5), Some(0), 2));
    assert_eq!(all.segments, report(0, 3, false).segments);
    let mut late = Report { stage: Some("decoding".to_owned()), ..Report::default() };
    late.add(report(4, 1, false));
    assert_eq!((late.stage.as_deref(), late.first_segment), (Some("decoding"), Some(4)));
    all.add(Report { is_restart: true, ..report(0, 1, false) });
    assert!(all.is_restart && all.checkpoints.is_empty());
    assert_eq!(all.segments, report(0, 1, false).segments);
}

#[test]
fn only_segments_that_were_not_told_are_news() {
    let news = |first: Option<u64>, told: u64| {
        Report { first_segment: first, ..report(3, 3, false) }.untold(told)
    };
    let numbers = |from: u64| -> Value { (from..6).map(|n| json!({ "n": n })).collect() };
    assert_eq!(news(Some(3), 3), Some((numbers(3), 6)));
    assert_eq!(news(Some(3), 5), Some((numbers(5), 6)));
    assert_eq!(news(Some(3), 6), None);
    assert_eq!(news(Some(3), 60), None);
    assert_eq!(news(Some(3), 0), Some((numbers(3), 6)), "what was lost is lost");
    assert_eq!(news(None, 7), Some((numbers(3), 10)));
    assert_eq!(Report::default().untold(0), None);
}
