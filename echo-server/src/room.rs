//! Whether there is room for more jobs.
//!
//! To count jobs takes longer the more there are. So they are counted now and then and those that were let
//! in since are added; only a fresh count turns anybody away. Whoever was let in and made no job after all
//! makes the next count come sooner, and nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::auth::{self, Caller};
use crate::error::Problem;
use crate::store::Load;

/// How long a count is good for.
const FRESH: Duration = Duration::from_millis(250);

/// What was counted last, and what was let in since.
#[derive(Debug, Default)]
pub struct Room(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    at: Option<Instant>,
    pending: u64,
    tenants: HashMap<String, u64>,
}

/// How many jobs there may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    pending: u64,
    of_tenant: u64,
}

/// Makes sure that there is room for so many more jobs.
///
/// # Errors
/// `queue_full` or `quota_exceeded`, with the time after which there may be room.
pub(crate) async fn check(app: &App, caller: &Caller, jobs: u64) -> Result<(), Problem> {
    let is_bounded = auth::is_required(app);
    let of_tenant = if is_bounded { app.config.tenant_max_pending } else { u64::MAX };
    let limits = Limits { pending: app.config.max_pending, of_tenant };
    if app.room.lets_in(&caller.tenant, jobs, limits, Instant::now()) {
        return Ok(());
    }
    let tenant = caller.tenant.clone();
    let load = app.db.call(move |store| store.load(&tenant)).await?;
    let wait = app.pool.wait_seconds(load.pending);
    if load.pending + jobs > limits.pending {
        let detail = format!("{} transcriptions are waiting", load.pending);
        return Err(Problem::new(503, "queue_full", detail).retry_after(wait).closing());
    }
    if load.of_tenant.saturating_add(jobs) > limits.of_tenant {
        let detail = format!("{} of your transcriptions are waiting or running", load.of_tenant);
        return Err(Problem::new(429, "quota_exceeded", detail).retry_after(wait).closing());
    }
    app.room.counted(&caller.tenant, load, jobs, Instant::now());
    Ok(())
}

impl Room {
    /// Lets so many jobs in, if the last count is fresh and leaves room for them.
    fn lets_in(&self, tenant: &str, jobs: u64, limits: Limits, now: Instant) -> bool {
        let mut last = self.lock();
        if last.at.is_none_or(|at| now.duration_since(at) >= FRESH) {
            return false;
        }
        let pending = last.pending + jobs;
        let Some(of_tenant) = last.tenants.get_mut(tenant) else { return false };
        let has_room = pending <= limits.pending && *of_tenant + jobs <= limits.of_tenant;
        if has_room {
            *of_tenant += jobs;
            last.pending = pending;
        }
        has_room
    }

    /// Notes a count and how many jobs were let in by it.
    fn counted(&self, tenant: &str, load: Load, jobs: u64, now: Instant) {
        let mut last = self.lock();
        if last.at.is_none_or(|at| now.duration_since(at) >= FRESH) {
            last.tenants.clear();
            last.at = Some(now);
        }
        last.pending = load.pending + jobs;
        last.tenants.insert(tenant.to_owned(), load.of_tenant + jobs);
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { pending: 10, of_tenant: 5 };

    fn load(pending: u64, of_tenant: u64) -> Load {
        Load { of_tenant, pending, processing: 0 }
    }

    #[test]
    fn a_fresh_count_lets_in_what_it_leaves_room_for() {
        let (room, now) = (Room::default(), Instant::now());
        assert!(!room.lets_in("a", 1, LIMITS, now));
        room.counted("a", load(6, 2), 1, now);
        assert!(room.lets_in("a", 2, LIMITS, now));
        assert!(!room.lets_in("a", 1, LIMITS, now), "five of the tenant's");
        assert!(!room.lets_in("b", 1, LIMITS, now), "not counted");
        room.counted("b", load(9, 0), 1, now);
        assert!(!room.lets_in("b", 1, LIMITS, now), "ten of all");
    }

    #[test]
    fn an_old_count_lets_nobody_in() {
        let (room, now) = (Room::default(), Instant::now());
        room.counted("a", load(0, 0), 1, now);
        room.counted("b", load(1, 0), 1, now + FRESH / 2);
        assert!(room.lets_in("b", 1, LIMITS, now + FRESH * 3 / 4));
        assert!(!room.lets_in("b", 1, LIMITS, now + FRESH));
        room.counted("a", load(0, 0), 1, now + FRESH);
        assert!(!room.lets_in("b", 1, LIMITS, now + FRESH));
    }
}
