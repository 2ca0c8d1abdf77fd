//! `netweight graph FILE`: what a model of expressions consists of.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ::graph::{Graph, Node, Summary};
use anyhow::{Context, Result, bail};
use checkpoint::{AtomicFile, Checkpoint};
use codec_api::Registry;

use crate::packing::check_free;
use crate::{Outcome, text};

/// Show what a model of expressions consists of
///
/// A model of expressions, as `merge --lazy` writes it, is computed of tensors of other models when
/// it is read. This command reads no weights.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, or a directory with it
    pub file: PathBuf,
    /// Only this tensor and what it is computed of
    #[arg(long, value_name = "NAME")]
    pub tensor: Option<String>,
    /// Write a picture for Graphviz; of at most 300 nodes
    #[arg(long, value_name = "FILE")]
    pub dot: Option<PathBuf>,
    /// Write a picture as SVG; of at most 300 nodes
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

/// Prints figures, and writes pictures.
///
/// # Errors
/// For a file without expressions, an output that it does not have, and pictures that are too large
/// or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let found = Checkpoint::open(&args.file)?;
    let file = found.files().first().cloned().unwrap_or_default();
    if !found.is_computed() {
        bail!("`{}` is not a file of expressions; `netweight merge --lazy` writes one", file.display());
    }
    let (graph, outputs) = Graph::open(&file, registry)?;
    let mut wanted: Vec<(&str, Node)> = outputs.iter().map(|(name, node)| (&**name, *node)).collect();
    if let Some(name) = &args.tensor {
        wanted.retain(|(own, _)| own == name);
        if wanted.is_empty() {
            bail!("`{}` has no tensor `{name}`; `netweight info` lists the {}", file.display(), outputs.len());
        }
    }
    let nodes: Vec<Node> = wanted.iter().map(|(_, node)| *node).collect();
    let bytes = fs::metadata(&file).with_context(|| format!("cannot read `{}`", file.display()))?.len();
    print(&graph.summary(&nodes)?, wanted.len(), bytes, out)?;
    if args.dot.is_none() && args.svg.is_none() {
        return Ok(Outcome::Clean);
    }
    let picture = graph.picture(&wanted);
    let picture = picture.context("no picture; --tensor NAME draws what one tensor is computed of")?;
    if let Some(path) = &args.dot {
        write(path, &picture.dot(), args.force, out)?;
    }
    if let Some(path) = &args.svg {
        write(path, &picture.svg(), args.force, out)?;
    }
    Ok(Outcome::Clean)
}

fn print(summary: &Summary, outputs: usize, bytes: u64, out: &mut dyn Write) -> Result<()> {
    let (tensors, (weights, dense)) = (text::count(outputs, "tensor"), summary.results);
    writeln!(
        out,
        "{tensors}, {weights} weights, {} when computed, {} as expressions",
        text::size(dense),
        text::size(bytes)
    )?;
    let (nodes, depth) = (text::count(summary.nodes, "node"), text::count(summary.depth, "operation"));
    writeln!(out, "{nodes}, at most {depth} one behind the other, {:.3e} flops", summary.flops)?;
    let counts = summary.operations.iter().map(|(name, count)| (&**name, *count));
    let operations: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    let leaves: Vec<String> = summary.leaves.iter().map(|(name, count)| text::count(*count, name)).collect();
    let none = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    writeln!(out, "operations: {}", none(operations))?;
    writeln!(out, "leaves: {}, {}", none(leaves), text::size(summary.leaf_bytes))?;
    for model in &summary.models {
        writeln!(out, "model: {}", text::path(model))?;
    }
    Ok(())
}

fn write(path: &Path, picture: &str, force: bool, out: &mut dyn Write) -> Result<()> {
    check_free(path, force)?;
    let mut file = AtomicFile::create(path)?;
    file.write(picture.as_bytes())?;
    file.commit()?;
    writeln!(out, "picture: {}", text::path(path))?;
    Ok(())
}
