//! Results, and a cache of them.

use std::collections::HashMap;

use codec_api::TensorSpec;

use crate::graph::Node;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// An evaluated node.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub(crate) spec: TensorSpec,
    pub(crate) values: Vec<f32>,
}

impl Value {
    /// Dtype and shape. Values are f32; those of another dtype are rounded to it.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn bytes(&self) -> u64 {
        size_of_val(&*self.values) as u64
    }
}

/// Results by node, for evaluations that follow, or run at the same time.
///
/// The cache keeps the results used last, up to a number of bytes. Beyond it, a result is found as
/// long as anybody else holds it. Evaluations on several threads with one cache compute each node
/// that is kept once: the others wait. Threads of rayon do not wait, because the work that they
/// would wait for may be their own; they compute the node again.
#[derive(Debug)]
pub struct Cache {
    budget: u64,
    entries: Mutex<Entries>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    by_node: HashMap<Node, Entry>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
enum Entry {
    Running,
    Ready { weak: Weak<Value>, strong: Option<Arc<Value>>, used: u64 },
}

/// What to do about a node.
enum Claim<'a> {
    Found(Arc<Value>),
    /// Compute it, and tell the others.
    Compute(Promise<'a>),
}

/// A result that others wait for. Dropped without a result, one of them computes it.
struct Promise<'a> {
    cache: &'a Cache,
    node: Node,
    /// Whether others wait for this promise, or a second thread computes the node.
    first: bool,
}

impl Cache {
    /// A cache that keeps results of up to so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { budget: bytes, entries: Mutex::default(), ready: Condvar::new() }
    }

    /// Bytes of the results that are kept.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of a node, if it is there.
    pub(crate) fn get(&self, node: Node) -> Option<Arc<Value>> {
        self.lock().get(node)
    }

    /// The result of a node, and whether it was there; otherwise computes it for all. `waits` for a
    /// thread that computes it already.
    pub(crate) fn find<E>(
        &self,
        node: Node,
        waits: bool,
        compute: impl FnOnce() -> Result<Arc<Value>, E>,
    ) -> Result<(Arc<Value>, bool), E> {
        match self.claim(node, waits) {
            Claim::Found(value) => Ok((value, true)),
            Claim::Compute(promise) => {
                let value = compute()?;
                promise.fulfil(&value);
                Ok((value, false))
            }
        }
    }

    /// The result of a node, or the right to compute it.
    fn claim(&self, node: Node, waits: bool) -> Claim<'_> {
        let mut entries = self.lock();
        loop {
            if let Some(value) = entries.get(node) {
                return Claim::Found(value);
            }
            let running = matches!(entries.by_node.get(&node), Some(Entry::Running));
            if !running || !waits {
                if !running {
                    entries.by_node.insert(node, Entry::Running);
                }
                return Claim::Compute(Promise { cache: self, node, first: !running });
            }
            entries = self.ready.wait(entries).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Promise<'_> {
    /// Gives the result to the cache and to those that wait.
    fn fulfil(self, value: &Arc<Value>) {
        let cache = self.cache;
        let mut entries = cache.lock();
        entries.clock += 1;
        let (used, bytes) = (entries.clock, value.bytes());
        let strong = (bytes <= cache.budget).then(|| Arc::clone(value));
        entries.bytes += if strong.is_some() { bytes } else { 0 };
        let entry = Entry::Ready { weak: Arc::downgrade(value), strong, used };
        if let Some(Entry::Ready { strong: Some(old), .. }) = entries.by_node.insert(self.node, entry) {
            entries.bytes -= old.bytes();
        }
        entries.shrink(cache.budget);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut entries = self.cache.lock();
        if self.first && matches!(entries.by_node.get(&self.node), Some(Entry::Running)) {
            entries.by_node.remove(&self.node);
        }
        drop(entries);
        self.cache.ready.notify_all();
    }
}

impl Entries {
    fn get(&mut self, node: Node) -> Option<Arc<Value>> {
        self.clock += 1;
        let Some(Entry::Ready { weak, used, .. }) = self.by_node.get_mut(&node) else { return None };
        *used = self.clock;
        let found = weak.upgrade();
        if found.is_none() {
            self.by_node.remove(&node);
        }
        found
    }

    /// Lets go of the results used longest ago, and forgets those that nobody holds.
    fn shrink(&mut self, budget: u64) {
        while self.bytes > budget {
            let kept = self.by_node.iter_mut().filter_map(|(_, entry)| match entry {
                Entry::Ready { strong: strong @ Some(_), used, .. } => Some((*used, strong)),
                _ => None,
            });
            let Some((_, strong)) = kept.min_by_key(|(used, _)| *used) else { return };
            self.bytes -= strong.take().map_or(0, |value| value.bytes());
        }
        self.by_node.retain(|_, entry| match entry {
            Entry::Running => true,
            Entry::Ready { weak, .. } => weak.strong_count() > 0,
        });
    }
}
