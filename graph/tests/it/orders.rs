//! The cache in every order of its threads.
//!
//! Loom runs a model once for each order of the steps of its threads, with up to three changes of a
//! thread that could go on. It finds threads that wait for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use codec_api::{Dtype, TensorSpec};
use graph::{Graph, Node};
use loom::thread;

use crate::cache::{Cache, Value};

/// Nodes, and the bytes of the result of each.
fn nodes() -> Vec<Node> {
    let graph = Graph::new();
    (0..3).map(|i| graph.random([4], i, 1.0).unwrap()).collect()
}

const BYTES: u64 = 16;

fn value(first: f32) -> Arc<Value> {
    Arc::new(Value { spec: TensorSpec::new(Dtype::F32, [4]).unwrap(), values: vec![first; 4] })
}

/// Runs a model in every order, and checks that there is more than one.
fn every_order(model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    assert!(orders.load(Ordering::Relaxed) > 10, "{orders:?} orders");
}

/// A count outside the model: it is no step of a thread.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn find(cache: &Cache, node: Node, waits: bool, computed: &Count) -> Arc<Value> {
    let compute = || {
        // Others may come while this thread computes.
        thread::yield_now();
        Ok::<_, ()>(value(computed.next() as f32))
    };
    cache.find(node, waits, compute).unwrap().0
}

#[test]
fn threads_that_wait_compute_a_node_once() {
    let node = nodes()[0];
    every_order(move || {
        let (cache, computed) = (Arc::new(Cache::new(1 << 20)), Count::default());
        let work: Vec<_> = (0..2)
            .map(|_| {
                let (cache, computed) = (Arc::clone(&cache), computed.clone());
                thread::spawn(move || find(&cache, node, true, &computed))
            })
            .collect();
        let own = find(&cache, node, true, &computed);
        assert!(work.into_iter().all(|work| Arc::ptr_eq(&work.join().unwrap(), &own)));
        assert!(cache.get(node).is_some_and(|kept| Arc::ptr_eq(&kept, &own)));
        assert_eq!((computed.get(), cache.bytes()), (1, own.spec().byte_len() as u64));
    });
}

#[test]
fn one_that_waits_goes_on_after_a_failure() {
    let node = nodes()[0];
    every_order(move || {
        let (cache, tries) = (Arc::new(Cache::new(1 << 20)), Count::default());
        // The first try fails, whichever thread makes it.
        let work = |cache: Arc<Cache>, tries: Count| {
            move || {
                cache.find(node, true, || {
                    thread::yield_now();
                    if tries.next() == 1 { Err(()) } else { Ok(value(1.0)) }
                })
            }
        };
        let others: Vec<_> = (0..2).map(|_| thread::spawn(work(Arc::clone(&cache), tries.clone()))).collect();
        let own = work(Arc::clone(&cache), tries.clone())();
        let results: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).chain([own]).collect();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
        assert_eq!((tries.get(), cache.bytes()), (2, BYTES));
    });
}

#[test]
fn one_that_does_not_wait_computes_again() {
    let node = nodes()[0];
    every_order(move || {
        let (cache, computed) = (Arc::new(Cache::new(1 << 20)), Count::default());
        let work: Vec<_> = [true, false]
            .into_iter()
            .map(|waits| {
                let (cache, computed) = (Arc::clone(&cache), computed.clone());
                thread::spawn(move || find(&cache, node, waits, &computed))
            })
            .collect();
        let own = find(&cache, node, true, &computed);
        let values: Vec<_> = work.into_iter().map(|work| work.join().unwrap()).chain([own]).collect();
        assert!(values.iter().all(|value| value.values().len() == 4));
        assert!((1..=2).contains(&computed.get()));
        // What is kept is counted once.
        assert_eq!(cache.bytes(), BYTES);
    });
}

#[test]
fn results_beyond_the_budget_are_found_while_held() {
    let nodes = nodes();
    every_order(move || {
        let (cache, computed) = (Arc::new(Cache::new(BYTES)), Count::default());
        let [first, second] = [nodes[0], nodes[1]];
        let held = find(&cache, first, true, &computed);
        let other = {
            let (cache, computed) = (Arc::clone(&cache), computed.clone());
            thread::spawn(move || drop(find(&cache, second, true, &computed)))
        };
        // Whether the other result has taken its place or not, this one is there.
        assert!(Arc::ptr_eq(&find(&cache, first, true, &computed), &held));
        drop(held);
        assert!(cache.bytes() <= BYTES);
        find(&cache, first, true, &computed);
        other.join().unwrap();
        assert!((2..=3).contains(&computed.get()) && cache.bytes() <= BYTES);
    });
}
