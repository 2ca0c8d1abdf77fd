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
//!
//! A path is relative to the directory of the file, with `/` between its parts, if the two have a
//! directory in common that is not the root, and absolute otherwise: a directory that holds both
//! can be moved. Dtype and shape of a tensor, and the hash of a packed one, are compared when the
//! file is opened; the hash of another one when the tensor is read for the first time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytemuck::cast_slice;
use checkpoint::{AtomicFile, Checkpoint, Hash, Model, safetensors_header};
use codec_api::util::is_nested_deeper;
use codec_api::{Dtype, EncodedTensor, Registry, TensorSpec};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::graph::{Data, Graph, Kind, Node};
use crate::leaf::{Leaf, Source};
use crate::operation::Operation;
use crate::plan::Plan;

/// The key of the metadata.
pub(crate) const KEY: &str = "netweight_graph";
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
    /// In their order.
    outputs: Map<String, Value>,
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
    Tensor { path: String, name: String, dtype: Dtype, shape: Vec<usize>, blake3: Hash },
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
        self.save_with(outputs, &BTreeMap::new(), path)
    }

    /// As [`Self::save`], with further metadata strings.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_with(
        &self,
        outputs: &[(&str, Node)],
        metadata: &BTreeMap<&str, &str>,
        path: impl AsRef<Path>,
    ) -> Result<()> {
        let path = path.as_ref();
        let fail = |reason: String| Error::File { path: path.to_owned(), reason };
        for (_, node) in outputs {
            self.check(*node)?;
        }
        let wanted: Vec<_> = outputs.iter().map(|(_, node)| (node.index, None)).collect();
        let plan = Plan::new(&self.read(), &wanted, |_| None);
        let (mut nodes, mut constants) = (Vec::with_capacity(plan.ids.len()), Vec::new());
        let folder = match std::path::absolute(path) {
            Ok(place) => place.parent().map_or_else(PathBuf::new, Path::to_owned),
            Err(error) => return Err(fail(error.to_string())),
        };
        let hashes = plan.data.par_iter().map(|data| hash(data)).collect::<Result<Vec<_>>>()?;
        for (data, hash) in plan.data.iter().zip(hashes) {
            let text = written(data, hash, &folder, &plan, &mut constants)?;
            nodes.push(RawValue::from_string(text).map_err(|error| fail(error.to_string()))?);
        }
        let number = |node: &Node| Value::from(plan.position(node.index));
        let outputs = outputs.iter().map(|(name, node)| ((*name).to_owned(), number(node))).collect();
        let structure = serde_json::to_string(&Structure { version: VERSION, nodes, outputs });
        let structure = structure.map_err(|error| fail(error.to_string()))?;
        let tensors = constants.iter().map(|constant| (&*constant.name, &constant.spec));
        let metadata = metadata.iter().map(|(key, text)| (*key, *text)).chain([(KEY, &*structure)]).collect();
        let header = safetensors_header(tensors, &metadata).map_err(fail)?;
        let mut file = AtomicFile::create(path)?;
        file.write(&header)?;
        for constant in &constants {
            file.write(&constant.bytes)?;
        }
        Ok(file.commit()?)
    }

    /// Reads a graph and its outputs by name. The models of its leaves are opened. A dense tensor
    /// is compared with its hash when it is read for the first time, a packed one here.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is not a valid graph, or of a newer version;
    /// [`Error::Missing`] for a model that is not there; [`Error::Changed`] for a tensor that is
    /// another one now.
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<(Self, BTreeMap<String, Node>)> {
        let open = |path: &Path| Model::open(path, &[], registry);
        let (graph, outputs) = Self::read_file(Checkpoint::open(path)?, registry, &open)?;
        Ok((graph, outputs.into_iter().collect()))
    }

    /// As [`Self::open`], with the outputs in their order; `open` opens the models of leaves.
    pub(crate) fn read_file(
        file: Checkpoint,
        registry: &Registry,
        open: &dyn Fn(&Path) -> Result<Model, checkpoint::Error>,
    ) -> Result<(Self, Vec<(String, Node)>)> {
        let path = &*file.files()[0].clone();
        let fail = |reason: String| Error::File { path: path.to_owned(), reason };
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
        let mut reader = Reader { graph: Self::new(), path, file, registry, open, sources: HashMap::new() };
        let mut nodes = Vec::with_capacity(structure.nodes.len());
        for text in &structure.nodes {
            nodes.push(reader.node(text.get(), &nodes)?);
        }
        let place = |(name, number): (String, Value)| match number.as_u64().and_then(|at| nodes.get(at as usize)) {
            Some(node) => Ok((name, *node)),
            None => Err(fail(format!("output `{name}` is node {number} of {}", nodes.len()))),
        };
        let outputs = structure.outputs.into_iter().map(place).collect::<Result<_>>()?;
        Ok((reader.graph, outputs))
    }
}

/// The hash of a tensor of a model.
fn hash(data: &Data) -> Result<Option<Hash>> {
    match &data.kind {
        Kind::Leaf(Leaf::Stored(stored)) => Ok(Some(stored.hash()?)),
        _ => Ok(None),
    }
}

/// A node as JSON; its constants become tensors of the file.
fn written<'a>(
    data: &'a Data,
    hash: Option<Hash>,
    folder: &Path,
    plan: &Plan,
    constants: &mut Vec<Constant<'a>>,
) -> Result<String> {
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
            let path = reference(folder, &path).ok_or_else(|| unwritable(data, &"its path is not UTF-8"))?;
            let blake3 = hash.map_or_else(|| stored.hash(), Ok)?;
            Reference::Tensor { path, name: stored.name.clone(), dtype: data.spec.dtype(), shape, blake3 }
        }
    };
    serde_json::to_string(&reference).map_err(|error| unwritable(data, &error))
}

/// The path of a model for a file in this folder; both are absolute. None if it is not UTF-8.
fn reference(folder: &Path, path: &Path) -> Option<String> {
    // `..` leads out of the directory that a link leads to.
    let resolved = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let place = path.parent().zip(path.file_name()).map(|(parent, name)| resolved(parent).join(name));
    let (folder, resolved) = (resolved(folder), place.unwrap_or_else(|| resolved(path)));
    let common = folder.components().zip(resolved.components()).take_while(|(a, b)| a == b).count();
    let shared = folder.components().take(common).any(|part| matches!(part, Component::Normal(_)));
    if !shared {
        return path.to_str().map(str::to_owned);
    }
    let up = folder.components().skip(common).map(|_| Some(".."));
    let down = resolved.components().skip(common).map(|part| part.as_os_str().to_str());
    let parts: Vec<&str> = up.chain(down).collect::<Option<_>>()?;
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
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
    open: &'a dyn Fn(&Path) -> Result<Model, checkpoint::Error>,
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
                self.stored(&path, &name, &spec, blake3)
            }
        };
        made.map_err(|error| match error {
            Error::Leaf { .. } => self.fail(number, error),
            other => other,
        })
    }

    fn stored(&mut self, path: &str, name: &str, spec: &TensorSpec, blake3: Hash) -> Result<Node> {
        let path = &*self.path.parent().unwrap_or(Path::new("")).join(path);
        let missing = |error: checkpoint::Error| Error::Missing {
            graph: self.path.to_owned(),
            path: path.to_owned(),
            tensor: name.to_owned(),
            reason: error.to_string(),
        };
        let source = if let Some(source) = self.sources.get(path) {
            Arc::clone(source)
        } else {
            let source = Source::of(path, (self.open)(path).map_err(missing)?);
            self.sources.insert(path.to_owned(), Arc::clone(&source));
            source
        };
        let changed = |reason: String| Error::Changed { path: path.to_owned(), tensor: name.to_owned(), reason };
        let found = source.model().spec(name).map_err(missing)?;
        if found != spec {
            return Err(changed(format!("it is {found}, and the graph was built with {spec}")));
        }
        let node = self.graph.stated_tensor(&source, name, Some(blake3))?;
        let packed = matches!(source.model(), Model::Packed(_));
        if let (true, Kind::Leaf(Leaf::Stored(stored))) = (packed, &self.graph.data(node)?.kind) {
            // The manifest has the hash.
            stored.check()?;
        }
        Ok(node)
    }
}
