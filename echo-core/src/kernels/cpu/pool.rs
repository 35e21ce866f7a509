//! A fork-join thread pool by tickets.
//!
//! A job is cut into chunks that whichever thread is awake claims, so that a worker which the
//! operating system has put aside costs nothing: a static split would wait for it. One word holds
//! generation, number of chunks and next chunk; claiming is one compare-exchange on it, which fails
//! for a worker that still looks at an older job.
//!
//! Workers spin for a moment after a job, because the next one of a decoder step follows within
//! microseconds, then sleep until the next job wakes them.
//!
//! A pool runs one job at a time. A caller that finds it busy runs its whole job on its own thread
//! instead of waiting: with as many callers as processors nobody is idle, and nothing can deadlock.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// How often an idle worker looks for a job before it sleeps: about half a millisecond.
const SPINS: u32 = 20_000;
/// How often a finished caller looks for the last chunk's end before it offers its time slice.
const JOIN_SPINS: u32 = 2_000;
/// Chunks of one job, the width of a field of the ticket.
const MAX_CHUNKS: usize = 0xffff;

/// A job's work on one chunk.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// What the threads of a pool share.
struct Shared {
    /// Generation (32 bits), chunks of the job (16), next chunk to claim (16).
    ticket: AtomicU64,
    /// Chunks not finished yet.
    unfinished: AtomicUsize,
    /// The job, valid while `unfinished` is not zero.
    job: UnsafeCell<Option<&'static Work<'static>>>,
    /// What the first chunk that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
}

// SAFETY: `job` is written only by the caller that holds `Pool::busy`, before the ticket is released,
// and read only between claiming a chunk of that ticket and finishing it, which the caller awaits.
unsafe impl Sync for Shared {}
// SAFETY: as above; the reference inside points to a `Sync` closure.
unsafe impl Send for Shared {}

/// Threads that run the chunks of a job together with the caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: Mutex<()>,
}

impl Shared {
    /// Takes the next chunk, if one is left.
    fn claim(&self) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let (next, chunks) = (ticket & 0xffff, ticket >> 16 & 0xffff);
            if next >= chunks {
                return None;
            }
            match self.ticket.compare_exchange_weak(
                ticket,
                ticket + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(next as usize),
                Err(newer) => ticket = newer,
            }
        }
    }

    /// Runs chunks until none is left; whether there was one.
    fn work(&self) -> bool {
        let mut any = false;
        while let Some(chunk) = self.claim() {
            any = true;
            // SAFETY: a claimed chunk is unfinished, so the caller of `run` still waits and the job lives.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(chunk)))
            {
                let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
            self.unfinished.fetch_sub(1, Ordering::Release);
        }
        any
    }

    /// A worker's life.
    fn serve(&self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.work() {
                idle = 0;
            } else if idle < SPINS {
                idle += 1;
                std::hint::spin_loop();
            } else {
                // A job published since the last look has left a token, so this returns at once.
                std::thread::park();
            }
        }
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; zero counts as one.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        // A worker that cannot be started is done without: callers finish every job themselves.
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("echo-kernel-{index}"))
                    .spawn(move || shared.serve())
                    .ok()
            })
            .collect();
        Self { shared, workers, busy: Mutex::new(()) }
    }

    /// How many threads work on a job, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with each of `0..chunks` once and returns when all calls have.
    ///
    /// # Panics
    /// With the panic of a chunk, after all others are done.
    pub(crate) fn run(&self, chunks: usize, work: &Work<'_>) {
        let _busy = match self.busy.try_lock() {
            Ok(guard) if chunks > 1 && !self.workers.is_empty() => guard,
            // A panic of an earlier job left nothing behind that matters.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(_) | Err(TryLockError::WouldBlock) => return (0..chunks).for_each(work),
        };
        if chunks > MAX_CHUNKS {
            let each = chunks.div_ceil(MAX_CHUNKS);
            let grouped = |group: usize| {
                (group * each..chunks.min((group + 1) * each)).for_each(work);
            };
            return self.publish(chunks.div_ceil(each), &grouped);
        }
        self.publish(chunks, work);
    }

    /// Runs a job of at most [`MAX_CHUNKS`] on all threads; the caller holds `busy`.
    fn publish(&self, chunks: usize, work: &Work<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The reference is used while a chunk is unfinished, and
        // this function does not return before all are finished.
        let job = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        // SAFETY: the last job is finished and its chunks are all claimed, so nobody reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.unfinished.store(chunks, Ordering::Relaxed);
        let generation = (shared.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.ticket.store(generation << 32 | (chunks as u64) << 16, Ordering::Release);
        for worker in self.workers.iter().take(chunks - 1) {
            worker.thread().unpark();
        }
        shared.work();
        let mut spins = 0;
        while shared.unfinished.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > JOIN_SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its chunks, so there is none to pass on.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counted(pool: &Pool, chunks: usize) -> Vec<usize> {
        let counts = (0..chunks).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
        pool.run(chunks, &|chunk| {
            counts[chunk].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_chunk_runs_once() {
        for threads in [0, 1, 2, 5] {
            let pool = Pool::new(threads);
            for chunks in [0, 1, 2, 7, 1000, 70_000] {
                assert!(
                    counted(&pool, chunks).iter().all(|&count| count == 1),
                    "{threads} {chunks}"
                );
            }
        }
    }

    #[test]
    fn many_jobs_in_a_row_do_not_mix() {
        let pool = Pool::new(3);
        for chunks in (0..20_000).map(|job| 1 + job % 5) {
            assert_eq!(counted(&pool, chunks), vec![1; chunks]);
        }
    }

    #[test]
    fn several_callers_and_nested_jobs_share_a_pool() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        assert_eq!(counted(&pool, 9), vec![1; 9]);
                    }
                });
            }
        });
        let total = AtomicUsize::new(0);
        pool.run(4, &|_| {
            total.fetch_add(counted(&pool, 3).len(), Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 12);
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|chunk| assert_ne!(chunk, 5, "chunk five"));
        }));
        assert!(caught.is_err());
        assert_eq!(counted(&pool, 8), vec![1; 8]);
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let pool = Pool::new(2);
        // Both chunks wait for each other, so both threads must take part.
        let meet = std::sync::Barrier::new(2);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            pool.run(2, &|_| {
                meet.wait();
            });
        }
    }
}
