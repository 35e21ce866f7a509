//! Many at once: what a single history cannot show.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::clock::now_ms;

/// Claims by eight workers of forty jobs, some of which are lost or given back on the way.
pub(super) fn many_at_once_do_each_job_once(new: New) {
    const JOBS: u32 = 40;
    let store = &*new();
    let jobs: Vec<Job> = (0..JOBS)
        .map(|n| {
            let job = NewJob { max_attempts: 50, ..new_job("a", &n.to_string()) };
            store.submit(&job, now_ms()).unwrap()
        })
        .collect();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for worker in 0..8_usize {
            let done = &done;
            scope.spawn(move || {
                let (owner, mut random) = (format!("worker {worker}"), Random(worker as u64 + 77));
                while done.load(Ordering::Relaxed) < JOBS {
                    let now = now_ms();
                    let claim = Claim { owner: &owner, until: now + MINUTE, resumes: true };
                    let Some(claimed) = store.claim(Phase::Run, &claim, now).unwrap() else {
                        store.sweep(now_ms()).unwrap();
                        continue;
                    };
                    match random.below(6) {
                        0 => store.lose(&owner, now_ms()).unwrap(),
                        1 => drop(store.release(&claimed.lease, now_ms()).unwrap()),
                        _ => {
                            store
                                .renew(&claimed.lease, &Report::default(), now + MINUTE, now)
                                .unwrap();
                            store
                                .complete(&claimed.lease, Usage::default(), 1.0, now_ms())
                                .unwrap();
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    for job in jobs {
        let job = store.job("a", &job.id).unwrap().unwrap();
        assert_eq!((job.state, job.commits), (State::Completed, 1));
        let attempts = store.attempts(&job.id).unwrap();
        let completed = attempts.iter().filter(|one| one.outcome.as_deref() == Some("completed"));
        assert_eq!(completed.count(), 1);
        assert_eq!(store.deliveries("a", &job.id).unwrap().len(), 1);
    }
}

/// Fifty submissions of one sound, with cancellations and a worker in between.
pub(super) fn the_same_sound_at_once_runs_once(new: New) {
    let store = &*new();
    std::thread::scope(|scope| {
        for n in 0..10 {
            scope.spawn(move || {
                for turn in 0..5 {
                    let job = store.submit(&new_job("a", "k"), now_ms()).unwrap();
                    if (n + turn) % 3 == 0 {
                        store.cancel("a", &job.id, false, now_ms()).unwrap().unwrap();
                    }
                }
            });
        }
    });
    let now = now_ms();
    let claimed = claim(store, now).unwrap();
    assert!(claim(store, now).is_none());
    store.complete(&claimed.lease, Usage::default(), 1.0, now_ms()).unwrap();
    let all = ListQuery { limit: 100, ..ListQuery::default() };
    let jobs = store.list("a", &all).unwrap().jobs;
    assert_eq!(jobs.len(), 50);
    for job in jobs {
        assert!(job.state.is_final(), "{job:?}");
        assert_eq!(job.commits, u32::from(job.state == State::Completed));
        assert_eq!(store.deliveries("a", &job.id).unwrap().len(), 1);
    }
}

/// Sixteen jobs of one batch that end at the same time, half of them in groups.
pub(super) fn the_last_jobs_of_a_batch_at_once_complete_it_once(new: New) {
    let store = &*new();
    for round in 0..5 {
        let id = format!("b{round}");
        let key = |n: usize| format!("{round} {}", if n < 8 { n } else { n / 2 });
        let jobs: Vec<NewJob> = (0..16).map(|n| job_of_batch(&id, &key(n))).collect();
        store.submit_batch(&new_batch(&id), &jobs, now_ms()).unwrap();
        let mut leases = Vec::new();
        while let Some(claimed) = claim(store, now_ms()) {
            leases.push(claimed.lease);
        }
        std::thread::scope(|scope| {
            for lease in &leases {
                scope.spawn(move || {
                    store.complete(lease, Usage::default(), 1.0, now_ms()).unwrap();
                });
            }
        });
        let batch = store.batch("a", &id).unwrap().unwrap();
        assert!(batch.completed_at.is_some(), "{batch:?}");
        assert_eq!(batch.counts, [(State::Completed, 16)]);
        // Those of earlier rounds are still to be tried.
        assert_eq!(told(store, now_ms() + MINUTE).len(), round + 1);
    }
}
