//! Models that cannot run are refused, with file, key or tensor, and reason.

use std::fs;

use runtime::CacheType;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::Tiny;

#[track_caller]
fn refusal(tiny: &Tiny) -> String {
    tiny.decoder(1).expect_err("a refusal").to_string()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn configurations_are_refused_by_the_key() {
    let cases: [(&str, &str, Value, &str); 22] = [
        ("llama", "model_type", json!("mamba"), "`mamba` is not supported; supported are gpt2, llama"),
        ("llama", "model_type", Value::Null, "key `model_type`: it is missing"),
        ("llama", "hidden_act", json!("tanh"), "`tanh` is not supported"),
        ("llama", "hidden_size", json!(0), "`0` is not a whole number from 1"),
        ("llama", "hidden_size", json!("64"), "is not a whole number"),
        ("llama", "num_key_value_heads", json!(3), "4 heads of the queries cannot share 3 heads"),
        ("llama", "head_dim", json!(15), "15 is odd"),
        ("llama", "pretraining_tp", json!(2), "`2` is not supported, only `1`"),
        ("llama", "rms_norm_eps", json!(-1), "`-1` is not a positive number"),
        ("llama", "quantization_config", json!({"bits": 4}), "key `quantization_config`"),
        ("llama", "rope_parameters", json!({"rope_type": "longrope"}), "key `rope_parameters.rope_type`: `longrope`"),
        ("llama", "rope_parameters", json!({"rope_type": "linear"}), "key `rope_parameters.factor`: it is missing"),
        (
            "llama",
            "rope_parameters",
            json!({"partial_rotary_factor": 0.5}),
            "key `rope_parameters.partial_rotary_factor`",
        ),
        ("llama", "eos_token_id", json!("x"), "is not a token or a list of tokens"),
        ("gpt2", "n_head", json!(5), "5 heads cannot share a width of 64"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true), "`true` is not supported, only `false`"),
        ("gpt2", "activation_function", json!("quick_gelu"), "key `activation_function`"),
        ("qwen2", "layer_types", json!(["full_attention"]), "1 entries for 2 layers"),
        (
            "qwen2",
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
            "`chunked_attention` is not supported",
        ),
        ("qwen2", "layer_types", json!(["sliding_attention", "full_attention"]), "`sliding_window` is not used"),
        ("mixtral", "num_experts_per_tok", json!(5), "5 experts for each token, but there are 4"),
        ("mixtral", "num_local_experts", Value::Null, "it is missing"),
    ];
    for (name, key, value, part) in cases {
        let tiny = Tiny::new(name);
        tiny.configure(|config| config[key] = value.clone());
        assert_says(&refusal(&tiny), &["config.json", key, part]);
    }
}

#[test]
fn files_are_refused_by_their_path() {
    let tiny = Tiny::new("llama");
    let config = tiny.path().join("config.json");
    fs::write(&config, "[1]").unwrap();
    assert_says(&refusal(&tiny), &["config.json", "a JSON object is wanted"]);
    fs::remove_file(&config).unwrap();
    assert_says(&refusal(&tiny), &["config.json", "beside its weights"]);
}

#[test]
fn a_configuration_of_another_size_is_refused() {
    for (key, value, parts) in [
        ("vocab_size", 512, ["model.embed_tokens.weight", "its shape is [128, 64]", "asks for [512, 64]"]),
        ("intermediate_size", 97, ["mlp.gate_proj.weight", "its shape is [96, 64]", "asks for [97, 64]"]),
        ("num_hidden_layers", 3, ["model.layers.2.self_attn.q_proj.weight", "has no tensor", "lists the 34"]),
    ] {
        let tiny = Tiny::new("llama-tied-bias");
        tiny.configure(|config| config[key] = json!(value));
        assert_says(&refusal(&tiny), &parts);
    }
}

#[test]
fn tensors_are_refused_by_their_name() {
    for (name, tensor) in [("llama", "model.layers.1.mlp.up_proj.weight"), ("gpt2", "transformer.h.1.ln_2.bias")] {
        let tiny = Tiny::new(name);
        tiny.rewrite(|tensors| drop(tensors.remove(tensor)));
        assert_says(&refusal(&tiny), &[tensor, "has no tensor"]);
        for bits in [f32::NAN.to_bits(), f32::NEG_INFINITY.to_bits()] {
            let tiny = Tiny::new(name);
            tiny.rewrite(|tensors| tensors.get_mut(tensor).unwrap().2[20..24].copy_from_slice(&bits.to_le_bytes()));
            assert_says(&refusal(&tiny), &[tensor, "element 5 is a NaN or an infinity", "model.safetensors"]);
            // So is one that a codec of exact values hides.
            let tiny = tiny.pack("lossless.raw");
            assert_says(&refusal(&tiny), &[tensor, "element 5 is a NaN or an infinity", "model.nw.safetensors"]);
        }
        let tiny = Tiny::new(name);
        tiny.rewrite(|tensors| tensors.get_mut(tensor).unwrap().0 = Dtype::I32);
        assert_says(&refusal(&tiny), &[tensor, "its dtype is I32; F32, F16 and BF16 are read"]);
    }
}

#[test]
fn texts_are_refused_that_the_model_cannot_read() {
    let decoder = Tiny::new("llama").decoder(1).unwrap();
    let mut session = decoder.session(CacheType::F32);
    let mut error = |ids: &[u32]| session.feed(ids, |_| ()).unwrap_err().to_string();
    assert_eq!(error(&[]), "there is no token to run");
    assert_says(&error(&[3, 128]), &["token 128 is not one of the 128 tokens"]);
    assert_says(&error(&[3; 129]), &["a text of 129 tokens is longer than the context of 128"]);
    session.feed(&[3; 128], |_| ()).unwrap();
    assert_says(&session.feed(&[3], |_| ()).unwrap_err().to_string(), &["a text of 129 tokens"]);
    session.truncate(127);
    session.feed(&[3], |logits| assert_eq!(logits.len(), 128)).unwrap();
}
