//! Threads that compute together.
//!
//! All threads run the same steps. In a step, each thread computes a share of the outputs and
//! writes it to its slot; a barrier follows, and then each thread copies the shares of all. So
//! every thread has its own copy of a token's values, and cheap work such as a norm is done by all
//! of them. With many tokens, each thread has some of them instead, and multiplies alone. Two sets
//! of slots alternate: a thread writes to one of them while others may still read the other.
//!
//! Products come in pieces, each of which has the same bits whichever thread computes it. A thread
//! that has computed its own pieces goes on with those that are left to others: threads are rarely
//! equally fast, and all wait for the last one.

use std::cell::{Cell, RefCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use codec_api::Inputs;
use rayon::{ThreadPool, ThreadPoolBuilder};
use simd::{Level, with_level};

use crate::error::{Error, Result};
use crate::weights::{Linear, Piece, part};

/// Turns of a loop before a waiting thread sleeps: some 20 µs, several times as long as a step of a
/// small layer.
const SPINS: usize = 4000;

/// A group of threads.
#[derive(Debug)]
pub(crate) struct Team {
    /// `None` for the caller's thread alone.
    pool: Option<ThreadPool>,
    count: usize,
    slots: [Vec<RwLock<Slot>>; 2],
    /// Numbers of the pieces of each thread that are taken, for either set of slots.
    taken: [Vec<Taken>; 2],
    barrier: Barrier,
    /// One region at a time: threads that wait for each other must all belong to one region.
    region: Mutex<()>,
}

/// What a thread has computed in a step.
#[derive(Debug, Default)]
struct Slot {
    values: Vec<f32>,
    /// The pieces of products in `values`: their numbers among all pieces.
    pieces: Vec<usize>,
}

/// A counter with a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Taken(AtomicUsize);

/// A thread of a region.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    team: &'a Team,
    /// Its number.
    pub(crate) index: usize,
    turn: Cell<usize>,
    failure: &'a Mutex<Option<Error>>,
    scratch: RefCell<Vec<f32>>,
}

/// A product of a step.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) linear: &'a Linear,
    pub(crate) x: &'a Inputs<'a>,
    /// `batch × outputs`.
    pub(crate) out: &'a mut [f32],
}

impl Team {
    /// A team of `count` threads.
    ///
    /// # Errors
    /// [`Error::Usage`] if the system does not start them.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let count = count.max(1);
        let start = || ThreadPoolBuilder::new().num_threads(count).build();
        let pool = (count > 1).then(start).transpose();
        let pool = pool.map_err(|error| Error::Usage(format!("cannot start {count} threads: {error}")))?;
        let slots = [(); 2].map(|()| (0..count).map(|_| RwLock::default()).collect());
        let taken = [(); 2].map(|()| (0..count).map(|_| Taken::default()).collect());
        Ok(Self { pool, count, slots, taken, barrier: Barrier::new(count), region: Mutex::new(()) })
    }

    /// Number of threads.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on every thread, at the caller's level of instructions.
    ///
    /// # Errors
    /// The first error of a thread. The other threads then no longer wait for each other.
    pub(crate) fn run(&self, work: impl Fn(&Worker<'_>) -> Result<()> + Sync) -> Result<()> {
        let (_one, failure, level) = (guard(&self.region), Mutex::new(None), Level::current());
        self.barrier.reset();
        self.taken.iter().flatten().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        let run = |index| {
            let (turn, scratch) = (Cell::new(0), RefCell::default());
            let worker = Worker { team: self, index, turn, failure: &failure, scratch };
            // A thread that ends early must not leave the others waiting.
            match catch_unwind(AssertUnwindSafe(|| with_level(level, || work(&worker)))) {
                Ok(result) => worker.note(result),
                Err(panic) => {
                    self.barrier.break_up();
                    resume_unwind(panic)
                }
            }
        };
        match &self.pool {
            Some(pool) => drop(pool.broadcast(|context| run(context.index()))),
            None => run(0),
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Worker<'_> {
    /// Number of threads.
    pub(crate) fn count(&self) -> usize {
        self.team.count
    }

    /// This thread's part of `len` things.
    pub(crate) fn own(&self, len: usize) -> std::ops::Range<usize> {
        part(self.index, self.count(), len)
    }

    /// A step of products; every thread gets all outputs.
    pub(crate) fn multiply(&self, jobs: &mut [Job<'_>]) {
        let pieces = self.compute(jobs);
        self.collect(&pieces, jobs);
    }

    /// Products with inputs of this thread's own, without the other threads.
    pub(crate) fn multiply_alone(&self, jobs: &mut [Job<'_>]) {
        for job in jobs.iter_mut().filter(|job| job.x.batch() > 0) {
            let done = job.linear.product(job.x, job.out, &mut self.scratch.borrow_mut());
            self.note(done.map_err(Error::from));
            job.linear.add_bias(job.out);
        }
    }

    /// As [`Self::multiply`], but only the first thread gets the outputs.
    pub(crate) fn multiply_for_first(&self, jobs: &mut [Job<'_>]) {
        let pieces = self.compute(jobs);
        self.collect(&pieces, if self.index == 0 { jobs } else { &mut [] });
    }

    /// A step in which each thread fills its slot, and then sees the slots of all: number of the
    /// thread and values.
    pub(crate) fn exchange(&self, fill: impl FnOnce(&mut Vec<f32>), mut see: impl FnMut(usize, &[f32])) {
        fill(&mut self.slot().values);
        for (index, slot) in self.meet().iter().enumerate() {
            see(index, &slot.read().unwrap_or_else(PoisonError::into_inner).values);
        }
    }

    /// The slot of this thread in this step.
    fn slot(&self) -> RwLockWriteGuard<'_, Slot> {
        self.team.slots[self.turn.get()][self.index].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all threads, and ends the step; returns its slots.
    fn meet(&self) -> &[RwLock<Slot>] {
        let turn = self.turn.replace(1 - self.turn.get());
        // No thread takes pieces of the step before any more, and none of the next step yet.
        self.team.taken[1 - turn][self.index].0.store(0, Ordering::Relaxed);
        self.team.barrier.wait();
        &self.team.slots[turn]
    }

    /// Notes an error, which the region returns if it is the first one.
    fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            guard(self.failure).get_or_insert(error);
            self.team.barrier.break_up();
        }
    }

    /// Computes pieces of the products into this thread's slot, until all are taken. Returns all
    /// pieces: the number of a job, and a piece of its product.
    fn compute(&self, jobs: &[Job<'_>]) -> Vec<(usize, Piece)> {
        let (count, mut pieces, mut ends) = (self.count(), Vec::new(), Vec::new());
        for index in 0..count {
            for (number, job) in jobs.iter().enumerate() {
                let own = job.linear.pieces(index, count, job.x.batch());
                pieces.extend(own.into_iter().map(|piece| (number, piece)));
            }
            ends.push(pieces.len());
        }
        let mut slot = self.slot();
        slot.pieces.clear();
        let mut used = 0;
        for index in (self.index..count).chain(0..self.index) {
            let first = if index == 0 { 0 } else { ends[index - 1] };
            let taken = &self.team.taken[self.turn.get()][index].0;
            loop {
                let piece = first + taken.fetch_add(1, Ordering::Relaxed);
                if piece >= ends[index] {
                    break;
                }
                used = self.add_piece(&mut slot, used, piece, (&jobs[pieces[piece].0], &pieces[piece].1));
            }
        }
        pieces
    }

    /// Computes a piece into a slot, behind those that it has; returns where the next one begins.
    fn add_piece(&self, slot: &mut Slot, used: usize, number: usize, (job, piece): (&Job<'_>, &Piece)) -> usize {
        let end = used + job.linear.extent(piece, job.x.batch());
        slot.values.resize(slot.values.len().max(end), 0.0);
        let out = &mut slot.values[used..end];
        let done = job.linear.compute(piece, job.x, out, &mut self.scratch.borrow_mut());
        self.note(done.map_err(Error::from));
        slot.pieces.push(number);
        end
    }

    /// Waits for all threads, then copies what they have computed, in the order of the pieces.
    fn collect(&self, pieces: &[(usize, Piece)], jobs: &mut [Job<'_>]) {
        let slots = self.meet().iter();
        if jobs.is_empty() {
            return;
        }
        let slots: Vec<_> = slots.map(|slot| slot.read().unwrap_or_else(PoisonError::into_inner)).collect();
        // After an error, pieces may be missing.
        let mut places = vec![None; pieces.len()];
        for slot in &slots {
            let mut first = 0;
            for &number in &slot.pieces {
                let Some((job, piece)) = pieces.get(number) else { continue };
                let end = first + jobs[*job].linear.extent(piece, jobs[*job].x.batch());
                places[number] = slot.values.get(first..end);
                first = end;
            }
        }
        for ((job, piece), values) in pieces.iter().zip(places) {
            let job = &mut jobs[*job];
            if let Some(values) = values {
                job.linear.gather(piece, values, job.x.batch(), job.out);
            }
        }
        for job in jobs {
            job.linear.add_bias(job.out);
        }
    }
}

/// Locks, also after a panic of another thread.
pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets threads wait for each other: first in a loop, because steps are short, then asleep.
#[derive(Debug)]
struct Barrier {
    count: usize,
    arrived: AtomicUsize,
    /// Number of times that all threads have met.
    meetings: AtomicUsize,
    broken: AtomicBool,
    /// Number of threads that sleep. Waking none would still cost a call of the system.
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

impl Barrier {
    fn new(count: usize) -> Self {
        let [arrived, meetings, sleepers] = [(); 3].map(|()| AtomicUsize::new(0));
        let (broken, asleep, wake) = (AtomicBool::new(false), Mutex::new(()), Condvar::new());
        Self { count, arrived, meetings, broken, sleepers, asleep, wake }
    }

    fn wait(&self) {
        let before = self.meetings.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            self.arrived.store(0, Ordering::Relaxed);
            // In the one order of these operations, either this thread sees a sleeper, or the
            // sleeper sees the meeting.
            self.meetings.store(before.wrapping_add(1), Ordering::SeqCst);
            if self.sleepers.load(Ordering::SeqCst) > 0 {
                let _asleep = guard(&self.asleep);
                self.wake.notify_all();
            }
            return;
        }
        let waits = || self.meetings.load(Ordering::SeqCst) == before && !self.broken.load(Ordering::Acquire);
        for _ in 0..SPINS {
            if !waits() {
                return;
            }
            spin_loop();
        }
        let asleep = guard(&self.asleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        drop(self.wake.wait_while(asleep, |()| waits()));
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Before a region, when no thread waits.
    fn reset(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Release);
    }

    /// Lets every thread go on, until the end of the region.
    fn break_up(&self) {
        let _asleep = guard(&self.asleep);
        self.broken.store(true, Ordering::Release);
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_see_the_shares_of_all() {
        for count in 1..5 {
            let team = Team::new(count).unwrap();
            for _ in 0..50 {
                team.run(|worker| {
                    for step in 0..20 {
                        let mut seen = Vec::new();
                        let fill = |slot: &mut Vec<f32>| *slot = vec![(step * 10 + worker.index) as f32];
                        worker.exchange(fill, |_, values| seen.extend_from_slice(values));
                        assert_eq!(seen, (0..count).map(|i| (step * 10 + i) as f32).collect::<Vec<_>>());
                    }
                    Ok(())
                })
                .unwrap();
            }
        }
    }

    #[test]
    fn errors_and_panics_end_a_region() {
        let team = Team::new(3).unwrap();
        for _ in 0..3 {
            let error = team.run(|worker| {
                if worker.index == 1 {
                    return Err(Error::Usage("one".to_owned()));
                }
                worker.exchange(|_| (), |_, _| ());
                Ok(())
            });
            assert_eq!(error.unwrap_err().to_string(), "one");
        }
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            team.run(|worker| {
                assert!(worker.index != 2, "on purpose");
                worker.exchange(|_| (), |_, _| ());
                Ok(())
            })
        }));
        assert!(panicked.is_err());
    }
}
