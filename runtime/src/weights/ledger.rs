//! Which operators are in memory, and which one makes room for another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use codec_api::LinearOp;

/// What was loaded while a model ran within a limit of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand {
    /// Most bytes that the weights take.
    pub limit: u64,
    /// Bytes that all weights would take.
    pub all: u64,
    /// Matrices, or chunks of them, that were loaded again.
    pub loads: u64,
    /// Stored bytes that these loads read, from the file or from the system's cache.
    pub read: u64,
    /// Experts that tokens needed. Tokens that run together count once for each expert.
    pub experts: u64,
    /// Those of them that were in memory.
    pub hits: u64,
}

/// The items that are loaded on demand: matrices, or chunks of them.
#[derive(Debug)]
pub(super) struct Ledger {
    items: Vec<Item>,
    /// Most bytes of the items together, and those that they take or will take.
    room: u64,
    used: u64,
    /// The layer that runs, and the number of layers with the head.
    layer: usize,
    layers: usize,
    /// Counts the uses of items.
    clock: u64,
    /// Items that will be used soon, in order.
    queue: VecDeque<usize>,
    pub(super) demand: Demand,
}

#[derive(Debug)]
struct Item {
    bytes: u64,
    layer: usize,
    expert: bool,
    last_use: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Absent,
    Loading,
    Loaded(Arc<dyn LinearOp>),
}

/// Answer to [`Ledger::find`].
#[derive(Debug)]
pub(super) enum Found {
    Loaded(Arc<dyn LinearOp>),
    Loading,
    Absent,
}

/// An item that was removed: its number, and what held its memory.
pub(super) type Removed = (usize, Arc<dyn LinearOp>);

impl Ledger {
    pub(super) fn new(limit: u64) -> Self {
        let demand = Demand { limit, ..Demand::default() };
        let (items, queue) = (Vec::new(), VecDeque::new());
        Self { items, room: limit, used: 0, layer: 0, layers: 1, clock: 0, queue, demand }
    }

    /// Adds a loaded item, which stays in memory if there is room beside `others` bytes. Items are
    /// added in the order of their layers.
    pub(super) fn add(&mut self, operator: Arc<dyn LinearOp>, (layer, expert): (usize, bool), others: u64) -> usize {
        let bytes = operator.resident_bytes();
        let fits = self.used.saturating_add(bytes).saturating_add(others) <= self.room;
        let state = if fits { State::Loaded(operator) } else { State::Absent };
        self.used += if fits { bytes } else { 0 };
        self.demand.all += bytes;
        self.layers = self.layers.max(layer + 1);
        self.items.push(Item { bytes, layer, expert, last_use: 0, state });
        self.items.len() - 1
    }

    /// Takes `others` bytes from the room of the items, for weights that always stay in memory.
    ///
    /// # Errors
    /// The number of bytes that are needed at least, with the largest item.
    pub(super) fn set_others(&mut self, others: u64) -> Result<Vec<Removed>, u64> {
        self.demand.all += others;
        let needed = others + self.items.iter().map(|item| item.bytes).max().unwrap_or(0);
        if self.demand.limit < needed {
            return Err(needed);
        }
        self.room = self.demand.limit - others;
        Ok(self.make_room(0, |_, _| true).unwrap_or_default())
    }

    /// Bytes of the items that are in memory.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Begins a layer. The layer after it is wanted too, and after the last one the first.
    pub(super) fn enter(&mut self, layer: usize) {
        let [layer, next] = [layer, layer + 1].map(|layer| layer % self.layers);
        self.layer = layer;
        let of = |wanted: usize| {
            let absent = move |item: &Item| !item.expert && item.layer == wanted && matches!(item.state, State::Absent);
            self.items.iter().enumerate().filter(move |(_, item)| absent(item)).map(|(id, _)| id)
        };
        self.queue = of(layer).chain(of(next)).collect();
    }

    /// Begins the experts that some tokens need. Each has the items of the first step and those of
    /// the second one.
    pub(super) fn expect(&mut self, experts: &[[Vec<usize>; 2]]) {
        let absent = |id: &usize| matches!(self.items[*id].state, State::Absent);
        let hit = |parts: &&[Vec<usize>; 2]| !parts.iter().flatten().any(&absent);
        self.demand.experts += experts.len() as u64;
        self.demand.hits += experts.iter().filter(hit).count() as u64;
        let wanted = (0..2).flat_map(|step| experts.iter().flat_map(move |parts| &parts[step]));
        let wanted: Vec<usize> = wanted.copied().filter(|id| absent(id)).collect();
        wanted.into_iter().rev().for_each(|id| self.queue.push_front(id));
    }

    /// An item that is to be used now.
    pub(super) fn find(&mut self, id: usize) -> Found {
        self.clock += 1;
        let item = &mut self.items[id];
        item.last_use = self.clock;
        match &item.state {
            State::Absent => Found::Absent,
            State::Loading => Found::Loading,
            State::Loaded(operator) => Found::Loaded(Arc::clone(operator)),
        }
    }

    /// Reserves room for an absent item that is to be used now; `None` if items in use take it.
    pub(super) fn reserve(&mut self, id: usize) -> Option<Vec<Removed>> {
        let removed = self.make_room(self.items[id].bytes, |_, _| true)?;
        self.begin(id);
        Some(removed)
    }

    /// The next item to load before it is used, with room reserved for it; `None` if there is none,
    /// or it would take the place of an item that is used sooner.
    pub(super) fn next(&mut self) -> Option<(usize, Vec<Removed>)> {
        while let Some(&id) = self.queue.front() {
            if matches!(self.items[id].state, State::Absent) {
                let wanted = self.distance(&self.items[id]);
                let removed = self.make_room(self.items[id].bytes, |ledger, item| {
                    item.layer != ledger.layer && (item.expert || ledger.distance(item) > wanted)
                })?;
                self.queue.pop_front();
                self.begin(id);
                return Some((id, removed));
            }
            self.queue.pop_front();
        }
        None
    }

    fn begin(&mut self, id: usize) {
        self.used += self.items[id].bytes;
        self.items[id].state = State::Loading;
    }

    /// Notes that an item was loaded from so many stored bytes.
    pub(super) fn loaded(&mut self, id: usize, operator: Arc<dyn LinearOp>, read: u64) {
        self.items[id].state = State::Loaded(operator);
        self.demand.loads += 1;
        self.demand.read += read;
    }

    /// Notes that an item could not be loaded.
    pub(super) fn failed(&mut self, id: usize) {
        self.used -= self.items[id].bytes;
        self.items[id].state = State::Absent;
    }

    /// Layers until the item is used.
    fn distance(&self, item: &Item) -> usize {
        (item.layer + self.layers - self.layer) % self.layers
    }

    /// Removes items that may go until `bytes` more fit; `None`, and nothing is removed, if they
    /// would not. Experts of other layers go first, the least recently used ones before others;
    /// then the layers that are used last; then the layer that runs.
    fn make_room(&mut self, bytes: u64, may_go: impl Fn(&Self, &Item) -> bool) -> Option<Vec<Removed>> {
        let excess = (self.used + bytes).saturating_sub(self.room);
        if excess == 0 {
            return Some(Vec::new());
        }
        let idle = |item: &Item| matches!(&item.state, State::Loaded(operator) if Arc::strong_count(operator) == 1);
        let (mut candidates, mut sum) = (Vec::new(), 0);
        for (id, item) in self.items.iter().enumerate().filter(|(_, item)| idle(item) && may_go(self, item)) {
            let distance = if item.expert { 0 } else { self.layers - self.distance(item) };
            candidates.push(Reverse((item.layer == self.layer, !item.expert, distance, item.last_use, id)));
            sum += item.bytes;
        }
        if sum < excess {
            return None;
        }
        let (mut candidates, mut removed, until) = (BinaryHeap::from(candidates), Vec::new(), self.used - excess);
        while self.used > until
            && let Some(Reverse((.., id))) = candidates.pop()
        {
            removed.extend(self.remove(id));
        }
        Some(removed)
    }

    fn remove(&mut self, id: usize) -> Option<Removed> {
        let item = &mut self.items[id];
        self.used -= item.bytes;
        match std::mem::replace(&mut item.state, State::Absent) {
            State::Loaded(operator) => Some((id, operator)),
            State::Absent | State::Loading => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use codec_api::Dtype;

    use super::super::dense::{Dense, DenseMatrix};
    use super::*;

    const BYTES: u64 = 64;

    fn operator() -> Arc<dyn LinearOp> {
        Arc::new(DenseMatrix::new(Arc::new(Dense::zeros(Dtype::F32, 1, 16).unwrap())))
    }

    /// A ledger with room for so many items, of these layers.
    fn ledger(room: u64, items: &[(usize, bool)]) -> Ledger {
        let mut ledger = Ledger::new(room * BYTES + 10);
        for &place in items {
            ledger.add(operator(), place, 10);
        }
        assert!(ledger.set_others(10).unwrap().is_empty());
        ledger
    }

    fn present(ledger: &Ledger) -> Vec<usize> {
        let loaded = |id: &usize| matches!(ledger.items[*id].state, State::Loaded(_));
        (0..ledger.items.len()).filter(loaded).collect()
    }

    /// Uses an item.
    fn take(ledger: &mut Ledger, id: usize) {
        if matches!(ledger.find(id), Found::Absent) {
            drop(ledger.reserve(id).unwrap());
            ledger.loaded(id, operator(), 1);
        }
    }

    #[test]
    fn of_layers_in_turn_those_stay_that_are_used_first() {
        let mut ledger = ledger(3, &[(0, false), (1, false), (2, false), (3, false), (4, false)]);
        assert_eq!(present(&ledger), [0, 1, 2]);
        for _ in 0..8 {
            for layer in 0..5 {
                ledger.enter(layer);
                take(&mut ledger, layer);
                assert!(ledger.used() <= 3 * BYTES);
            }
        }
        // Of N in turn with room for k, at least (N - k)/(N - 1) have to be loaded.
        assert!(ledger.demand.loads <= 8 * 5 / 2, "{}", ledger.demand.loads);
    }

    #[test]
    fn the_next_layer_is_loaded_ahead_in_place_of_what_is_used_later() {
        let mut ledger = ledger(3, &[(0, false), (1, false), (2, false), (3, false), (4, false)]);
        ledger.enter(2);
        assert_eq!(ledger.next().unwrap().0, 3);
        // Layer 0 is used after layer 3, and layer 2 runs.
        ledger.loaded(3, operator(), 1);
        assert_eq!(present(&ledger), [0, 2, 3]);
        assert!(ledger.next().is_none());
        ledger.enter(4);
        assert_eq!(ledger.next().unwrap().0, 4);
        assert_eq!(present(&ledger), [0, 2]);
    }

    #[test]
    fn the_expert_that_was_not_used_for_longest_goes() {
        let experts = [(0, true), (0, true), (0, true), (0, true), (1, true), (1, false)];
        let mut ledger = ledger(4, &experts);
        ledger.enter(0);
        for id in [2, 0, 3, 1] {
            take(&mut ledger, id);
        }
        ledger.enter(1);
        take(&mut ledger, 5);
        ledger.expect(&[[vec![4], vec![]], [vec![5], vec![]]]);
        assert_eq!(ledger.next().unwrap().0, 4);
        assert_eq!(present(&ledger), [1, 3, 5]);
        assert_eq!((ledger.demand.experts, ledger.demand.hits), (2, 1));
    }

    #[test]
    fn items_in_use_stay_and_failures_give_their_room_back() {
        let mut ledger = ledger(1, &[(0, false), (1, false)]);
        let Found::Loaded(held) = ledger.find(0) else { panic!("it is loaded") };
        assert!(ledger.reserve(1).is_none());
        drop(held);
        drop(ledger.reserve(1).unwrap());
        assert!(ledger.reserve(0).is_none() && matches!(ledger.find(1), Found::Loading));
        ledger.failed(1);
        assert_eq!(ledger.used(), 0);
        take(&mut ledger, 0);
    }

    #[test]
    fn a_limit_below_the_largest_item_is_refused() {
        let mut ledger = Ledger::new(73);
        ledger.add(operator(), (0, false), 10);
        assert_eq!(ledger.set_others(10).unwrap_err(), 74);
    }
}
