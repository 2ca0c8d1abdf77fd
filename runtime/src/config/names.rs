//! The names of the tensors.

/// The names of a family. Those of a layer follow its prefix ([`Names::layer`]).
#[derive(Debug)]
pub(crate) struct Names {
    /// What may precede all names but that of the head.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) embedding: &'static str,
    /// Learned positions.
    pub(crate) positions: Option<&'static str>,
    /// What precedes the number of a layer.
    pub(crate) layers: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) attention: Attention,
    pub(crate) output: &'static str,
    pub(crate) head_norms: [&'static str; 2],
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) plain: Plain,
    pub(crate) experts: Option<Experts>,
    pub(crate) norm: &'static str,
    pub(crate) head: &'static str,
    /// Whether the rows of the linear layers, except the head, are inputs (`Conv1D`).
    pub(crate) rows_are_inputs: bool,
}

/// Queries, keys and values.
#[derive(Debug)]
pub(crate) enum Attention {
    /// One matrix for all three.
    Fused(&'static str),
    /// Three matrices.
    Apart([&'static str; 3]),
}

/// A feed-forward network.
#[derive(Debug)]
pub(crate) struct Plain {
    /// The matrix whose outputs, after the activation, are factors of those of `up`.
    pub(crate) gate: Option<&'static str>,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
}

/// All experts in one tensor `[experts, outputs, inputs]`: gate above up, and down.
pub(crate) const STACKED: [&str; 2] = ["gate_up_proj", "down_proj"];

/// A mixture of experts.
#[derive(Debug)]
pub(crate) struct Experts {
    pub(crate) router: &'static str,
    /// What precedes the number of an expert, or the names of the stacks.
    pub(crate) prefix: &'static str,
    pub(crate) apart: Plain,
}

impl Names {
    /// The name of a tensor of layer `layer`.
    pub(crate) fn layer(&self, layer: usize, name: &str) -> String {
        format!("{}{layer}.{name}", self.layers)
    }
}

pub(super) static GPT2: Names = Names {
    prefixes: &["transformer.", ""],
    embedding: "wte",
    positions: Some("wpe"),
    layers: "h.",
    attention_norm: "ln_1",
    attention: Attention::Fused("attn.c_attn"),
    output: "attn.c_proj",
    head_norms: ["", ""],
    feed_forward_norm: "ln_2",
    plain: Plain { gate: None, up: "mlp.c_fc", down: "mlp.c_proj" },
    experts: None,
    norm: "ln_f",
    head: "lm_head",
    rows_are_inputs: true,
};

pub(super) static LLAMA: Names = llama(None);

pub(super) static MIXTRAL: Names = llama(Some(Experts {
    router: "block_sparse_moe.gate",
    prefix: "block_sparse_moe.experts.",
    apart: Plain { gate: Some("w1"), up: "w3", down: "w2" },
}));

pub(super) static QWEN_MOE: Names = llama(Some(Experts {
    router: "mlp.gate",
    prefix: "mlp.experts.",
    apart: Plain { gate: Some("gate_proj"), up: "up_proj", down: "down_proj" },
}));

const fn llama(experts: Option<Experts>) -> Names {
    Names {
        prefixes: &["model.", ""],
        embedding: "embed_tokens",
        positions: None,
        layers: "layers.",
        attention_norm: "input_layernorm",
        attention: Attention::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.o_proj",
        head_norms: ["self_attn.q_norm", "self_attn.k_norm"],
        feed_forward_norm: "post_attention_layernorm",
        plain: Plain { gate: Some("mlp.gate_proj"), up: "mlp.up_proj", down: "mlp.down_proj" },
        experts,
        norm: "norm",
        head: "lm_head",
        rows_are_inputs: false,
    }
}
