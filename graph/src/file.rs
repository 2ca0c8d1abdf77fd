//! Graphs in files.
//!
//! A graph is a safetensors file. `__metadata__["netweight_graph"]` is JSON: `version`, `nodes` in
//! their order, and `outputs`, which names nodes. A node is an operation with the numbers of its
//! operands, which are below its own, or a leaf:
//!
//! - `values`: up to 16 numbers, as the bits of f32
//! - `array`: a tensor of this file, in F32
//! - `payload`: a tensor of bytes of this file, which are an encoded tensor
//! - `random`: seed and standard deviation
//! - `tensor`: path of a model, name, dtype, shape and blake3 of a tensor

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::cast_slice;
use checkpoint::{AtomicFile, Checkpoint, safetensors_header};
use codec_api::util::is_nested_deeper;
use codec_api::{Dtype, EncodedTensor, Registry, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::graph::{Data, Graph, Kind, Node};
use crate::leaf::{Leaf, Source};
use crate::operation::Operation;
use crate::plan::Plan;

/// The key of the metadata.
const KEY: &str = "netweight_graph";
const VERSION: u64 = 1;
/// Most values of a leaf in the JSON.
const SMALL: usize = 16;
/// Deepest nesting of the JSON: that of an operation with nested codecs.
const MAX_NESTING: usize = 24;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Structure {
    version: u64,
    nodes: Vec<Box<RawValue>>,
    outputs: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "leaf", rename_all = "snake_case", deny_unknown_fields)]
enum Reference {
    Values { shape: Vec<usize>, bits: Vec<u32> },
    Array { tensor: String },
    Payload { tensor: String },
    Random { shape: Vec<usize>, seed: u64, deviation: f32 },
    Tensor { path: PathBuf, name: String, dtype: Dtype, shape: Vec<usize>, blake3: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Applied {
    operation: Box<RawValue>,
    operands: Vec<u32>,
}

/// A tensor of the file.
struct Constant<'a> {
    name: String,
    spec: TensorSpec,
    bytes: Cow<'a, [u8]>,
}

impl Graph {
    /// Writes the nodes that the outputs need. The file appears whole or not at all.
    ///
    /// # Errors
    /// Those of the checkpoint, also of those whose tensors are leaves; [`Error::File`].
    pub fn save(&self, outputs: &[(&str, Node)], path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let fail = |reason: String| Error::File { path: path.to_owned(), reason };
        for (_, node) in outputs {
            self.check(*node)?;
        }
        let wanted: Vec<_> = outputs.iter().map(|(_, node)| (node.index, None)).collect();
        let plan = Plan::new(&self.read(), &wanted, |_| None);
        let (mut nodes, mut constants) = (Vec::with_capacity(plan.ids.len()), Vec::new());
        for data in &plan.data {
            let text = written(data, &plan, &mut constants)?;
            nodes.push(RawValue::from_string(text).map_err(|error| fail(error.to_string()))?);
        }
        let number = |node: &Node| plan.position(node.index) as u32;
        let outputs = outputs.iter().map(|(name, node)| ((*name).to_owned(), number(node))).collect();
        let structure = serde_json::to_string(&Structure { version: VERSION, nodes, outputs });
        let structure = structure.map_err(|error| fail(error.to_string()))?;
        let tensors = constants.iter().map(|constant| (&*constant.name, &constant.spec));
        let header = safetensors_header(tensors, &BTreeMap::from([(KEY, &*structure)])).map_err(fail)?;
        let mut file = AtomicFile::create(path)?;
        file.write(&header)?;
        for constant in &constants {
            file.write(&constant.bytes)?;
        }
        Ok(file.commit()?)
    }

    /// Reads a graph and its outputs by name. The models of its leaves are opened, and their
    /// tensors compared with the hashes.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is not a valid graph, or of a newer version;
    /// [`Error::Changed`] for a tensor that is another one now; those of checkpoints.
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<(Self, BTreeMap<String, Node>)> {
        let path = path.as_ref();
        let fail = |reason: String| Error::File { path: path.to_owned(), reason };
        let file = Checkpoint::open(path)?;
        let text = file.metadata().get(KEY).ok_or_else(|| fail(format!("its metadata have no `{KEY}`")))?;
        if is_nested_deeper(text, MAX_NESTING) {
            return Err(fail(format!("its structure is nested more than {MAX_NESTING} deep")));
        }
        let json = |error: serde_json::Error| fail(error.to_string());
        match serde_json::from_str::<Version>(text).map_err(json)?.version {
            VERSION => {}
            other => return Err(fail(format!("it has version {other}, and this program reads {VERSION}; update it"))),
        }
        let structure: Structure = serde_json::from_str(text).map_err(json)?;
        let mut reader = Reader { graph: Self::new(), path, file, registry, sources: HashMap::new() };
        let mut nodes = Vec::with_capacity(structure.nodes.len());
        for text in &structure.nodes {
            nodes.push(reader.node(text.get(), &nodes)?);
        }
        let place = |(name, number): (String, u32)| match nodes.get(number as usize) {
            Some(node) => Ok((name, *node)),
            None => Err(fail(format!("output `{name}` is node {number} of {}", nodes.len()))),
        };
        let outputs = structure.outputs.into_iter().map(place).collect::<Result<_>>()?;
        Ok((reader.graph, outputs))
    }
}

/// A node as JSON; its constants become tensors of the file.
fn written<'a>(data: &'a Data, plan: &Plan, constants: &mut Vec<Constant<'a>>) -> Result<String> {
    let shape = data.spec.shape().to_vec();
    let mut constant = |spec, bytes: Cow<'a, [u8]>| {
        let name = format!("constants.{}", constants.len());
        constants.push(Constant { name: name.clone(), spec, bytes });
        name
    };
    let reference = match &data.kind {
        Kind::Operation { operation, operands } => {
            let operands: Vec<_> = operands.iter().map(|(id, _)| plan.position(*id)).collect();
            let operation = serde_json::to_string(&**operation).map_err(|error| unwritable(data, &error))?;
            return Ok(format!("{{\"operation\":{operation},\"operands\":{operands:?}}}"));
        }
        Kind::Leaf(Leaf::Dense(values)) if values.len() <= SMALL => {
            Reference::Values { shape, bits: values.iter().map(|v| v.to_bits()).collect() }
        }
        Kind::Leaf(Leaf::Dense(values)) => {
            Reference::Array { tensor: constant(data.spec.clone(), Cow::Borrowed(cast_slice(&values[..]))) }
        }
        Kind::Leaf(Leaf::Random { seed, deviation }) => Reference::Random { shape, seed: *seed, deviation: *deviation },
        Kind::Leaf(Leaf::Encoded(encoded)) => {
            let bytes = encoded.tensor.to_bytes().map_err(|error| unwritable(data, &error))?;
            let spec = TensorSpec::new(Dtype::U8, [bytes.len()]).map_err(|error| unwritable(data, &error))?;
            Reference::Payload { tensor: constant(spec, Cow::Owned(bytes)) }
        }
        Kind::Leaf(Leaf::Stored(stored)) => {
            let path = std::path::absolute(stored.source.path()).map_err(|error| unwritable(data, &error))?;
            let blake3 = stored.source.hash(&stored.name)?.to_string();
            Reference::Tensor { path, name: stored.name.clone(), dtype: data.spec.dtype(), shape, blake3 }
        }
    };
    serde_json::to_string(&reference).map_err(|error| unwritable(data, &error))
}

fn unwritable(data: &Data, error: &dyn std::fmt::Display) -> Error {
    let error = codec_api::CodecError::Usage(format!("it cannot be written: {error}"));
    Error::Leaf { leaf: format!("{:?}", data.kind), error }
}

/// A file that is being read.
struct Reader<'a> {
    graph: Graph,
    path: &'a Path,
    file: Checkpoint,
    registry: &'a Registry,
    sources: HashMap<PathBuf, Arc<Source>>,
}

impl Reader<'_> {
    fn fail(&self, number: usize, reason: impl std::fmt::Display) -> Error {
        Error::File { path: self.path.to_owned(), reason: format!("node {number}: {reason}") }
    }

    /// Builds a node; `before` are those in front of it.
    fn node(&mut self, text: &str, before: &[Node]) -> Result<Node> {
        let number = before.len();
        let is_leaf = text.trim_start().starts_with("{\"leaf\"");
        if is_leaf {
            let reference = serde_json::from_str(text).map_err(|error| self.fail(number, error))?;
            return self.leaf(reference, number);
        }
        let applied: Applied = serde_json::from_str(text).map_err(|error| self.fail(number, error))?;
        let operation: Box<dyn Operation> =
            serde_json::from_str(applied.operation.get()).map_err(|error| self.fail(number, error))?;
        let mut operands = Vec::with_capacity(applied.operands.len());
        for operand in applied.operands {
            let reason =
                || format!("its operand {operand} does not come before it: the graph has a cycle or is cut off");
            operands.push(*before.get(operand as usize).ok_or_else(|| self.fail(number, reason()))?);
        }
        self.graph.apply_shared(operation.into(), &operands).map_err(|error| self.fail(number, error))
    }

    fn leaf(&mut self, reference: Reference, number: usize) -> Result<Node> {
        let made = match reference {
            Reference::Values { shape, bits } => {
                self.graph.array(shape, bits.into_iter().map(f32::from_bits).collect::<Vec<_>>())
            }
            Reference::Random { shape, seed, deviation } => self.graph.random(shape, seed, deviation),
            Reference::Array { tensor } => {
                let view = self.file.tensor(&tensor).map_err(|error| self.fail(number, error))?;
                let values = view.to_f32().map_err(|error| self.fail(number, error))?.into_owned();
                self.graph.array(view.spec().shape(), values)
            }
            Reference::Payload { tensor } => {
                let (_, bytes) = self.file.bytes(&tensor).map_err(|error| self.fail(number, error))?;
                let encoded = EncodedTensor::from_bytes(&bytes, self.registry);
                self.graph.encoded(&Arc::new(encoded.map_err(|error| self.fail(number, error))?))
            }
            Reference::Tensor { path, name, dtype, shape, blake3 } => {
                let spec = TensorSpec::new(dtype, shape).map_err(|error| self.fail(number, error))?;
                self.stored(&path, &name, &spec, &blake3)
            }
        };
        made.map_err(|error| match error {
            Error::Leaf { .. } => self.fail(number, error),
            other => other,
        })
    }

    fn stored(&mut self, path: &Path, name: &str, spec: &TensorSpec, blake3: &str) -> Result<Node> {
        let source = if let Some(source) = self.sources.get(path) {
            Arc::clone(source)
        } else {
            let source = Source::open(path, self.registry)?;
            self.sources.insert(path.to_owned(), Arc::clone(&source));
            source
        };
        let changed = |reason: String| Error::Changed { path: path.to_owned(), tensor: name.to_owned(), reason };
        let found = source.model().spec(name)?;
        if found != spec {
            return Err(changed(format!("it is {found}, and the graph was built with {spec}")));
        }
        let hash = source.hash(name)?.to_string();
        if hash != blake3 {
            return Err(changed(format!("it has blake3 {hash}, and the graph was built with {blake3}")));
        }
        self.graph.tensor(&source, name)
    }
}
