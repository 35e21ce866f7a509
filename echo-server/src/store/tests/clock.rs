//! Leases in a database without a clock of its own, when somebody sets the machine's.

use super::*;

#[test]
fn a_clock_that_is_set_costs_no_lease() {
    for by_ms in [60 * MINUTE, -60 * MINUTE] {
        let store = SqliteStore::open(None, true).unwrap();
        let start = 100 * MINUTE;
        let job = store.submit(&new_job("a", "k"), start).unwrap();
        let held = claim(&store, start).unwrap();
        store.clock_stepped(by_ms).unwrap();
        let now = start + by_ms;
        assert!(store.sweep(now + 1000).unwrap().requeued.is_empty());
        // Who stops renewing loses it when its time is up, by either clock.
        assert_eq!(store.sweep(now + 10 * MINUTE).unwrap().requeued, [job.id]);
        let late = store.complete(&held.lease, Usage::default(), 1.0, now);
        assert!(is_fenced(late));
    }
}
