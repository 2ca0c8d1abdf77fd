//! Building graphs.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use checkpoint::Hash;
use codec_api::{CodecError, Dtype, EncodedTensor, TensorSpec};

use crate::error::{Error, Result};
use crate::leaf::{Encoded, Leaf, Source, Stored, require_float};
use crate::operation::{Access, Operation};
use crate::plan::Plan;

/// A node of a graph: an expression with a dtype and a shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    graph: u32,
    pub(crate) index: u32,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.index)
    }
}

/// What a node is.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) spec: TensorSpec,
    pub(crate) kind: Kind,
    /// What the operation has found out of its operands ([`Operation::prepare`]), once it was
    /// needed.
    pub(crate) prepared: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Whether the operation makes a pass over its operands first.
    pub(crate) surveyed: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Leaf(Leaf),
    Operation { operation: Arc<dyn Operation>, operands: Box<[(u32, Access)]> },
}

impl Data {
    fn new(spec: TensorSpec, kind: Kind, surveyed: bool) -> Self {
        Self { spec, kind, prepared: OnceLock::new(), surveyed }
    }

    /// Operands, and how their rows are used.
    pub(crate) fn operands(&self) -> &[(u32, Access)] {
        match &self.kind {
            Kind::Leaf(_) => &[],
            Kind::Operation { operands, .. } => operands,
        }
    }

    /// All values, if this is a leaf whose values are in memory.
    pub(crate) fn values(&self) -> Option<&[f32]> {
        match &self.kind {
            Kind::Leaf(leaf) => leaf.values(),
            Kind::Operation { .. } => None,
        }
    }
}

/// Expressions of tensors, which share their parts. Operands exist before the nodes that use them,
/// so that there are no cycles; equal nodes are one node, also when they are built twice. Dense
/// arrays are equal if they are the same memory.
///
/// Several threads may build and evaluate at the same time.
#[derive(Debug)]
pub struct Graph {
    id: u32,
    inner: RwLock<Inner>,
    plans: Mutex<Plans>,
}

/// Plans of nodes that were evaluated.
#[derive(Debug, Default)]
struct Plans {
    by_node: HashMap<u32, Arc<Plan>>,
    /// Nodes of all plans.
    nodes: usize,
}

/// Most nodes of the plans that are kept.
const PLANNED: usize = 1 << 14;

#[derive(Debug, Default)]
struct Inner {
    nodes: Vec<Arc<Data>>,
    /// Nodes by their operation or leaf, and operands.
    known: HashMap<Vec<u8>, u32>,
    /// The key of a node that is being built.
    key: Vec<u8>,
}

/// Nodes for which a new graph has room.
const FEW: usize = 14;

/// The number of the next graph of the program.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        let inner = Inner { nodes: Vec::with_capacity(FEW), known: HashMap::with_capacity(FEW), key: Vec::new() };
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inner: RwLock::new(inner), plans: Mutex::default() }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dtype and shape of a node.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn spec(&self, node: Node) -> Result<TensorSpec> {
        Ok(self.data(node)?.spec.clone())
    }

    pub(crate) fn data(&self, node: Node) -> Result<Arc<Data>> {
        self.check(node)?;
        self.read().get(node.index as usize).cloned().ok_or(Error::Foreign)
    }

    pub(crate) fn check(&self, node: Node) -> Result<()> {
        if node.graph == self.id { Ok(()) } else { Err(Error::Foreign) }
    }

    /// The plan for all rows of a node, as it is made and kept for evaluations that follow. Nodes
    /// never change.
    pub(crate) fn planned(&self, id: u32, make: impl FnOnce() -> Result<Plan>) -> Result<Arc<Plan>> {
        let lock = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = lock().by_node.get(&id) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(make()?);
        if plan.ids.len() <= PLANNED {
            let mut plans = lock();
            if plans.nodes + plan.ids.len() > PLANNED {
                *plans = Plans::default();
            }
            if plans.by_node.insert(id, Arc::clone(&plan)).is_none() {
                plans.nodes += plan.ids.len();
            }
        }
        Ok(plan)
    }

    pub(crate) fn node(&self, index: u32) -> Node {
        Node { graph: self.id, index }
    }

    pub(crate) fn read(&self) -> Nodes<'_> {
        Nodes(self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the result of an operation.
    ///
    /// # Errors
    /// [`Error::Operands`] if the operands do not fit; [`Error::Foreign`].
    pub fn apply(&self, operation: impl Operation + 'static, operands: &[Node]) -> Result<Node> {
        self.apply_shared(Arc::new(operation), operands)
    }

    /// As [`Self::apply`].
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_shared(&self, operation: Arc<dyn Operation>, operands: &[Node]) -> Result<Node> {
        operands.iter().try_for_each(|node| self.check(*node))?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { nodes, known, key } = &mut *inner;
        key.clear();
        key.push(b'=');
        for operand in operands {
            key.extend(operand.index.to_le_bytes());
        }
        serde_json::to_writer(&mut *key, &*operation).map_err(|error| Error::Operands {
            operation: operation.typetag_name().to_owned(),
            operands: format!("{operands:?}"),
            reason: error.to_string(),
        })?;
        if let Some(&index) = known.get(&*key) {
            return Ok(self.node(index));
        }
        let spec_of = |node: &Node| &nodes[node.index as usize].spec;
        let (one, two, more): ([&TensorSpec; 1], [&TensorSpec; 2], Vec<&TensorSpec>);
        // Most operations have one or two operands.
        let specs: &[&TensorSpec] = match operands {
            [a] => {
                one = [spec_of(a)];
                &one
            }
            [a, b] => {
                two = [spec_of(a), spec_of(b)];
                &two
            }
            _ => {
                more = operands.iter().map(spec_of).collect();
                &more
            }
        };
        let inferred = match specs.iter().find_map(|spec| spec.require_float().err()) {
            Some(error) => Err(error.to_string()),
            None => operation.infer(specs),
        };
        let spec = inferred.map_err(|reason| unfit(&*operation, operands, specs, reason))?;
        if operation.in_place() && (specs.is_empty() || specs[0].shape() != spec.shape()) {
            let reason = "an operation in place has the shape of its first operand".to_owned();
            return Err(unfit(&*operation, operands, specs, reason));
        }
        let surveyed = !specs.is_empty() && (operation.is_prepared() || operation.survey(specs).is_some());
        let access = |(at, node): (usize, &Node)| (node.index, operation.access(at, specs, &spec));
        let operands = operands.iter().enumerate().map(access).collect();
        let data = Data::new(spec, Kind::Operation { operation, operands }, surveyed);
        let index = push(nodes, data)?;
        known.insert(key.clone(), index);
        Ok(self.node(index))
    }

    /// Adds a leaf, unless a leaf with this key exists.
    fn leaf(&self, spec: TensorSpec, leaf: Leaf, key: impl FnOnce(&mut Vec<u8>)) -> Result<Node> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { nodes, known, key: text } = &mut *inner;
        text.clear();
        text.push(b'#');
        key(text);
        text.extend(format!("#{:?}", spec.shape()).as_bytes());
        if let Some(&index) = known.get(&*text) {
            return Ok(self.node(index));
        }
        let index = push(nodes, Data::new(spec, Kind::Leaf(leaf), false))?;
        known.insert(text.clone(), index);
        Ok(self.node(index))
    }

    /// A dense array, which the graph shares.
    ///
    /// # Errors
    /// [`Error::Leaf`] if the number of values is not that of the shape.
    pub fn array(&self, shape: impl Into<Vec<usize>>, values: impl Into<Arc<[f32]>>) -> Result<Node> {
        let values = values.into();
        let (count, place) = (values.len(), values.as_ptr() as usize);
        let leaf = Leaf::Dense(values);
        let fail = |leaf: &Leaf, error| Error::Leaf { leaf: format!("{leaf:?}"), error };
        let spec = TensorSpec::new(Dtype::F32, shape).map_err(|error| fail(&leaf, error))?;
        if spec.elements() != count {
            let error = CodecError::Usage(format!("a tensor {spec} has {} values", spec.elements()));
            return Err(fail(&leaf, error));
        }
        self.leaf(spec, leaf, |key| {
            key.extend(b"dense");
            // Two empty arrays may have one address.
            key.extend(place.to_le_bytes());
            key.extend(count.to_le_bytes());
        })
    }

    /// A number: a tensor without axes.
    ///
    /// # Errors
    /// [`Error::TooManyNodes`].
    pub fn scalar(&self, value: f32) -> Result<Node> {
        let spec = TensorSpec::new(Dtype::F32, []).map_err(|error| Error::Leaf { leaf: "scalar".into(), error })?;
        self.leaf(spec, Leaf::Dense([value].into()), |key| {
            key.extend(b"scalar");
            key.extend(value.to_bits().to_le_bytes());
        })
    }

    /// Normally distributed numbers with mean 0. They depend on the seed and their place only.
    ///
    /// # Errors
    /// [`Error::Leaf`] if the shape is too large or the deviation not finite.
    pub fn random(&self, shape: impl Into<Vec<usize>>, seed: u64, deviation: f32) -> Result<Node> {
        let leaf = Leaf::Random { seed, deviation };
        if !deviation.is_finite() {
            let error = CodecError::Usage("give a finite deviation".into());
            return Err(Error::Leaf { leaf: format!("{leaf:?}"), error });
        }
        let spec =
            TensorSpec::new(Dtype::F32, shape).map_err(|error| Error::Leaf { leaf: format!("{leaf:?}"), error })?;
        self.leaf(spec, leaf, |key| {
            key.extend(b"random");
            key.extend(seed.to_le_bytes());
            key.extend(deviation.to_bits().to_le_bytes());
        })
    }

    /// An encoded tensor in memory.
    ///
    /// # Errors
    /// [`Error::Leaf`] if it does not hold floats.
    pub fn encoded(&self, tensor: &Arc<EncodedTensor>) -> Result<Node> {
        let place = Arc::as_ptr(tensor) as usize;
        let leaf = Leaf::Encoded(Box::new(Encoded::new(Arc::clone(tensor))));
        require_float(&leaf, &tensor.spec)?;
        self.leaf(tensor.spec.clone(), leaf, |key| {
            key.extend(b"encoded");
            key.extend(place.to_le_bytes());
        })
    }

    /// A tensor of a checkpoint, dense, packed or computed. It is read when it is evaluated, and
    /// only the rows that are needed. A tensor of another dtype than F32, F16 and BF16 may be an
    /// output of a file, but no operand.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn tensor(&self, source: &Arc<Source>, name: &str) -> Result<Node> {
        self.stated_tensor(source, name, None)
    }

    /// As [`Self::tensor`]; `stated` is the hash that a file states.
    pub(crate) fn stated_tensor(&self, source: &Arc<Source>, name: &str, stated: Option<Hash>) -> Result<Node> {
        let spec = source.model().spec(name)?.clone();
        self.leaf(spec, Leaf::Stored(Box::new(Stored::new(Arc::clone(source), name, stated))), |key| {
            key.extend(b"tensor");
            // The node keeps the source, so that no other one gets its address. A file that was
            // replaced and opened again is another source.
            key.extend(Arc::as_ptr(source).addr().to_le_bytes());
            key.extend(stated.iter().flat_map(|hash| hash.0));
            key.extend(name.as_bytes());
        })
    }
}

/// The nodes of a graph that others do not change meanwhile.
pub(crate) struct Nodes<'a>(RwLockReadGuard<'a, Inner>);

impl std::ops::Deref for Nodes<'_> {
    type Target = [Arc<Data>];

    fn deref(&self) -> &[Arc<Data>] {
        &self.0.nodes
    }
}

fn push(nodes: &mut Vec<Arc<Data>>, data: Data) -> Result<u32> {
    let index = u32::try_from(nodes.len()).map_err(|_| Error::TooManyNodes)?;
    nodes.push(Arc::new(data));
    Ok(index)
}

/// The error of an operation whose operands do not fit.
fn unfit(operation: &dyn Operation, operands: &[Node], specs: &[&TensorSpec], reason: String) -> Error {
    let named: Vec<String> = operands.iter().zip(specs).map(|(node, spec)| format!("{node:?} ({spec})")).collect();
    let operation = serde_json::to_string(operation).unwrap_or_else(|_| operation.typetag_name().to_owned());
    Error::Operands { operation, operands: named.join(" and "), reason }
}
