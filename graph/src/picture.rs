//! Pictures of graphs: Graphviz' DOT, and layers as SVG.

use std::fmt::Write;

use crate::error::{Error, Result};
use crate::graph::{Graph, Kind, Node};
use crate::leaf::Leaf;

/// Most nodes of a picture: more are not readable.
const MOST: usize = 300;
/// Most characters of a line in a box.
const LONGEST: usize = 34;

/// Width and height of a box, and the distances between boxes and layers, in pixels.
const BOX: [usize; 2] = [236, 40];
const GAP: [usize; 2] = [16, 44];

/// The nodes that an expression needs, in layers: every operand is in an earlier layer.
#[derive(Clone, Debug)]
pub struct Picture {
    nodes: Vec<Drawn>,
    /// Places of operand and operation.
    edges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
struct Drawn {
    /// The number in the graph.
    id: u32,
    title: String,
    detail: String,
    is_leaf: bool,
    layer: usize,
}

impl Graph {
    /// The picture of expressions; `outputs` are nodes and their names.
    ///
    /// # Errors
    /// [`Error::Picture`] for more than 300 nodes.
    pub fn picture(&self, outputs: &[(&str, Node)]) -> Result<Picture> {
        let wanted: Vec<Node> = outputs.iter().map(|(_, node)| *node).collect();
        let below = self.below(&wanted)?;
        if below.len() > MOST {
            return Err(Error::Picture { nodes: below.len(), most: MOST });
        }
        let (mut nodes, mut edges) = (Vec::<Drawn>::with_capacity(below.len()), Vec::new());
        for (id, data) in &below {
            let mut layer = 0;
            for (operand, _) in data.operands() {
                let place = below.partition_point(|(other, _)| other < operand);
                layer = layer.max(nodes[place].layer + 1);
                edges.push((place, nodes.len()));
            }
            let (title, is_leaf) = match &data.kind {
                Kind::Leaf(Leaf::Stored(stored)) => (stored.name.clone(), true),
                Kind::Leaf(leaf) => (format!("{leaf:?}"), true),
                Kind::Operation { operation, .. } => (operation.typetag_name().to_owned(), false),
            };
            let mut detail = data.spec.to_string();
            if let Kind::Leaf(Leaf::Stored(stored)) = &data.kind {
                let _ = write!(detail, " of {}", stored.source.path().display());
            }
            for (name, _) in outputs.iter().filter(|(_, node)| node.index == *id) {
                let _ = write!(detail, " = {name}");
            }
            nodes.push(Drawn { id: *id, title, detail, is_leaf, layer });
        }
        Ok(Picture { nodes, edges })
    }
}

impl Picture {
    /// As the input of Graphviz.
    pub fn dot(&self) -> String {
        let mut text = "digraph weights {\n  rankdir=BT; node [shape=box, fontname=\"sans-serif\"];\n".to_owned();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        for node in &self.nodes {
            let style = if node.is_leaf { ", style=rounded" } else { "" };
            let (title, detail) = (quoted(&node.title), quoted(&node.detail));
            let _ = writeln!(text, "  n{} [label=\"{title}\\n{detail}\"{style}];", node.id);
        }
        for (from, to) in &self.edges {
            let _ = writeln!(text, "  n{} -> n{};", self.nodes[*from].id, self.nodes[*to].id);
        }
        text + "}\n"
    }

    /// As an image: leaves at the bottom, and every operation above its operands.
    pub fn svg(&self) -> String {
        let layers = self.nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
        let mut counts = vec![0usize; layers];
        let mut columns = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            columns.push(counts[node.layer]);
            counts[node.layer] += 1;
        }
        let widest = counts.iter().copied().max().unwrap_or(0);
        let [step, height] = [BOX[0] + GAP[0], BOX[1] + GAP[1]];
        let place = |at: usize| {
            let layer = self.nodes[at].layer;
            let left = (widest - counts[layer]) * step / 2;
            [GAP[0] + left + columns[at] * step, GAP[0] + (layers - 1 - layer) * height]
        };
        let size = [widest * step + GAP[0], layers.max(1) * height + GAP[0]];
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" \
             font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            size[0], size[1]
        );
        for (from, to) in &self.edges {
            let ([x, y], [above, below]) = (place(*from), place(*to));
            let (start, end) = (x + BOX[0] / 2, above + BOX[0] / 2);
            let _ = writeln!(
                text,
                "<line x1=\"{start}\" y1=\"{y}\" x2=\"{end}\" y2=\"{}\" stroke=\"#888\"/>",
                below + BOX[1]
            );
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let ([x, y], fill) = (place(at), if node.is_leaf { "#eef3fb" } else { "#fdf3e3" });
            let (middle, title, detail) = (x + BOX[0] / 2, shown(&node.title), shown(&node.detail));
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\" stroke=\"#555\"/>\n\
                 <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"12\">{title}</text>\n\
                 <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#444\">{detail}</text>",
                BOX[0],
                BOX[1],
                y + 16,
                y + 31
            );
        }
        text + "</svg>\n"
    }
}

/// A line of a box: its end if it is too long, and no markup.
fn shown(text: &str) -> String {
    let count = text.chars().count();
    let end: String = text.chars().skip(count.saturating_sub(LONGEST)).filter(|c| !c.is_control()).collect();
    let short = if count > LONGEST { format!("…{end}") } else { end };
    short.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
