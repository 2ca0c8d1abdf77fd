//! Weights that are loaded when they are needed, within a limit of memory.
//!
//! A thread of its own loads what the next layer needs. A thread that needs what is not there
//! loads it; while another one does so, it loads the next thing.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use checkpoint::Pages;
use codec_api::{Inputs, LinearOp, Product, Result};

use super::ledger::{Demand, Found, Ledger, Removed};
use super::origin::Origin;
use crate::team::guard;

/// The weights that are loaded on demand, and the thread that loads them ahead.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    pages: Pages,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    origins: Vec<Arc<Origin>>,
    /// Whether a thread waits for the memory of operators in use.
    starved: bool,
    ended: bool,
}

impl Store {
    /// A store for weights that take at most `limit` bytes, beside those that always stay.
    pub(crate) fn new(limit: u64, pages: Pages) -> Self {
        let state = State { ledger: Ledger::new(limit), origins: Vec::new(), starved: false, ended: false };
        let shared = Shared { pages, state: Mutex::new(state), changed: Condvar::new() };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// Takes an operator that can be loaded again, of a layer and perhaps of an expert. It stays in
    /// memory at first if there is room beside `others` bytes.
    pub(super) fn keep(
        &self,
        origin: Origin,
        operator: Box<dyn LinearOp>,
        place: (usize, bool),
        others: u64,
    ) -> OnDemand {
        let facts = Facts::of(&*operator);
        let mut state = guard(&self.shared.state);
        let id = state.ledger.add(Arc::from(operator), place, others);
        state.origins.push(Arc::new(origin));
        OnDemand { shared: Arc::clone(&self.shared), id, facts }
    }

    /// Begins to load ahead. `others` are the bytes of weights that always stay in memory.
    ///
    /// # Errors
    /// Why the thread cannot start; or the number of bytes that are needed at least.
    pub(crate) fn start(&mut self, others: u64) -> io::Result<std::result::Result<(), u64>> {
        let removed = match guard(&self.shared.state).ledger.set_others(others) {
            Ok(removed) => removed,
            Err(needed) => return Ok(Err(needed)),
        };
        self.shared.release(removed);
        let shared = Arc::clone(&self.shared);
        self.thread = Some(Builder::new().name("weights".to_owned()).spawn(move || shared.load_ahead())?);
        Ok(Ok(()))
    }

    /// Begins a layer: what it and the next one always need is loaded.
    pub(crate) fn enter(&self, layer: usize) {
        guard(&self.shared.state).ledger.enter(layer);
        self.shared.changed.notify_all();
    }

    /// Begins experts, each with the items of its first and its second step.
    pub(crate) fn expect(&self, experts: &[[Vec<usize>; 2]]) {
        guard(&self.shared.state).ledger.expect(experts);
        self.shared.changed.notify_all();
    }

    /// What was loaded so far.
    pub(crate) fn demand(&self) -> Demand {
        guard(&self.shared.state).ledger.demand
    }

    /// Bytes that are in memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        guard(&self.shared.state).ledger.used()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        guard(&self.shared.state).ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported, and no one waits for what it loads.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// The operator of an item.
    fn get(&self, id: usize) -> Result<Arc<dyn LinearOp>> {
        let mut state = guard(&self.state);
        loop {
            let found = state.ledger.find(id);
            if let Found::Loaded(operator) = found {
                return Ok(operator);
            }
            let (next, removed) = match found {
                Found::Absent => (id, state.ledger.reserve(id)),
                _ => state.ledger.next().map_or((id, None), |(next, removed)| (next, Some(removed))),
            };
            let Some(removed) = removed else {
                state.starved = true;
                state = self.wait(state);
                continue;
            };
            let origin = Arc::clone(&state.origins[next]);
            drop(state);
            let loaded = self.load(next, &origin, removed);
            if next == id {
                return loaded;
            }
            self.give_back(loaded);
            state = guard(&self.state);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the use of an operator. An error of one that was loaded ahead is dropped: the thread
    /// that needs it finds the error again.
    fn give_back(&self, operator: Result<Arc<dyn LinearOp>>) {
        drop(operator);
        if std::mem::take(&mut guard(&self.state).starved) {
            self.changed.notify_all();
        }
    }

    /// Loads the items of the queue until the store ends.
    fn load_ahead(&self) {
        let mut state = guard(&self.state);
        while !state.ended {
            let Some((next, removed)) = state.ledger.next() else {
                state = self.wait(state);
                continue;
            };
            let origin = Arc::clone(&state.origins[next]);
            drop(state);
            self.give_back(self.load(next, &origin, removed));
            state = guard(&self.state);
        }
    }

    /// Loads an item whose room is reserved, in place of those that were removed.
    fn load(&self, id: usize, origin: &Origin, removed: Vec<Removed>) -> Result<Arc<dyn LinearOp>> {
        self.release(removed);
        let mut reserved = Reserved { shared: self, id: Some(id) };
        let operator: Arc<dyn LinearOp> = Arc::from(origin.load()?);
        if !origin.is_read_by_products() {
            origin.stored().for_each(|bytes| self.pages.release(bytes));
        }
        let read = origin.stored().map(|bytes| bytes.len() as u64).sum();
        reserved.id = None;
        guard(&self.state).ledger.loaded(id, Arc::clone(&operator), read);
        self.changed.notify_all();
        Ok(operator)
    }

    /// Gives the memory of items back.
    fn release(&self, removed: Vec<Removed>) {
        for (id, operator) in removed {
            drop(operator);
            let origin = Arc::clone(&guard(&self.state).origins[id]);
            origin.stored().for_each(|bytes| self.pages.release(bytes));
        }
    }
}

/// Gives reserved room back, also after a panic, unless the item was loaded.
struct Reserved<'a> {
    shared: &'a Shared,
    id: Option<usize>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            guard(&self.shared.state).ledger.failed(id);
            self.shared.changed.notify_all();
        }
    }
}

/// What is known of an operator that is not there.
#[derive(Clone, Copy, Debug)]
struct Facts {
    shape: (usize, usize),
    granule: NonZeroUsize,
    /// For the forward and for the transposed product.
    shares_outputs: [bool; 2],
    tolerance: f32,
    bytes: u64,
}

impl Facts {
    fn of(operator: &dyn LinearOp) -> Self {
        let shares_outputs = [Product::Forward, Product::Transposed].map(|product| operator.shares_outputs(product));
        let (shape, granule, tolerance) = (operator.shape(), operator.granule(), operator.tolerance());
        Self { shape, granule, shares_outputs, tolerance, bytes: operator.resident_bytes() }
    }
}

/// An operator that a [`Store`] loads when it is used.
#[derive(Debug)]
pub(crate) struct OnDemand {
    shared: Arc<Shared>,
    id: usize,
    facts: Facts,
}

impl OnDemand {
    /// Its number in the store.
    pub(super) fn id(&self) -> usize {
        self.id
    }

    fn with(&self, run: impl FnOnce(&dyn LinearOp) -> Result<()>) -> Result<()> {
        let operator = self.shared.get(self.id)?;
        let result = run(&*operator);
        self.shared.give_back(Ok(operator));
        result
    }
}

impl LinearOp for OnDemand {
    fn shape(&self) -> (usize, usize) {
        self.facts.shape
    }

    fn granule(&self) -> NonZeroUsize {
        self.facts.granule
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        self.with(|operator| operator.apply(product, rows, x, y))
    }

    fn shares_outputs(&self, product: Product) -> bool {
        self.facts.shares_outputs[usize::from(product == Product::Transposed)]
    }

    fn apply_outputs(&self, product: Product, outputs: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        self.with(|operator| operator.apply_outputs(product, outputs, x, y))
    }

    fn apply_vectors(
        &self,
        product: Product,
        outputs: Range<usize>,
        x: &Inputs<'_>,
        y: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        self.with(|operator| operator.apply_vectors(product, outputs, x, y, stride))
    }

    fn tolerance(&self) -> f32 {
        self.facts.tolerance
    }

    fn resident_bytes(&self) -> u64 {
        self.facts.bytes
    }
}
