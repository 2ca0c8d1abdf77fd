"""Speed of GPT-2's architecture with random weights, in Netweight and in llama.cpp, in turn.

`cargo xtask llamacpp` starts this script; llama.py says what it needs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from gguf.quants import quantize

from llama import ffi, gguf, gpt2_writer, load_library, np, write

# Layers, width, heads, vocabulary and context.
LAYERS, WIDTH, HEADS, VOCABULARY, CONTEXT = 12, 768, 12, 50257, 1024
# Recipes of Netweight, and llama.cpp's format with about as many bits.
PAIRS = [("f32", "F32"), ("int8", "Q8_0"), ("q4", "Q4_0")]
PROMPT = 128


def write_model(path, kind, seed=0):
    """Writes the architecture with random matrices of this kind; the rest is F32."""
    rng = np.random.default_rng(seed)
    out = gpt2_writer(path, LAYERS, WIDTH, HEADS, VOCABULARY, CONTEXT)

    def matrix(name, rows, columns):
        values = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        if kind == "F32":
            out.add_tensor(name, values)
        else:
            code = gguf.GGMLQuantizationType[kind]
            out.add_tensor(name, quantize(values, code), raw_dtype=code)

    def vector(name, length, value):
        out.add_tensor(name, np.full(length, value, np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH)
    out.add_tensor("position_embd.weight", rng.standard_normal((CONTEXT, WIDTH), dtype=np.float32))
    vector("output_norm.weight", WIDTH, 1)
    vector("output_norm.bias", WIDTH, 0)
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_qkv", 3 * WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_up", 4 * WIDTH, WIDTH),
            ("ffn_down", WIDTH, 4 * WIDTH),
        ):
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
            vector(f"blk.{layer}.{name}.bias", rows, 0)
        for name in ("attn_norm", "ffn_norm"):
            vector(f"blk.{layer}.{name}.weight", WIDTH, 1)
            vector(f"blk.{layer}.{name}.bias", WIDTH, 0)
    write(out)


class Llama:
    """A model in llama.cpp, with a cache in F32 as in Netweight."""

    def __init__(self, api, path, threads):
        self.api = api
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(path.encode(), options)
        # Without the fused attention, tokens one by one are faster, and with it the prompt.
        self.contexts = [self.open(path, threads, kind) for kind in (0, 1)]

    def open(self, path, threads, flash_attention):
        options = self.api.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = 256
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = 0
        options.flash_attn_type = flash_attention
        context = self.api.llama_init_from_model(self.model, options)
        if context == ffi.NULL:
            sys.exit(f"error: llama.cpp does not open `{path}`")
        return context

    def run(self, context, tokens, first):
        """Runs tokens from a position on, with the logits of the last one; returns the seconds."""
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = first + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i + 1 == len(tokens)
        begin = time.perf_counter()
        failed = self.api.llama_decode(context, batch)
        self.api.llama_synchronize(context)
        seconds = time.perf_counter() - begin
        self.api.llama_batch_free(batch)
        if failed:
            sys.exit("error: llama.cpp cannot run the tokens")
        return seconds

    def measure(self, count):
        """Tokens per second one by one after a prompt, and of the prompt: the better context."""
        speeds = []
        for context in self.contexts:
            self.api.llama_memory_clear(self.api.llama_get_memory(context), True)
            prompt = self.run(context, [100 + i for i in range(PROMPT)], 0)
            rest = sum(self.run(context, [300 + i], PROMPT + i) for i in range(count))
            speeds.append((count / rest, PROMPT / prompt))
        return tuple(map(max, zip(*speeds)))


def netweight(args):
    """The same of Netweight, for each recipe."""
    recipes = ",".join(recipe for recipe, _ in PAIRS)
    command = [args.netweight, "speed", "--shape", "gpt2", "--recipes", recipes, "--json", "--rounds", "1"]
    command += ["-j", str(args.threads), "--prompt", str(PROMPT), "-n", str(args.tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("error: `netweight speed` has failed")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["recipe"]: (line["tokens_per_s"], line["prefill_tokens_per_s"]) for line in lines}


def table(rounds, args):
    """Prints the fastest rounds of each program: other work on the machine slows both, but
    llama.cpp more, whose threads wait for each other in a loop."""
    print(f"gpt2, random weights: {args.threads} threads, a prompt of {PROMPT} tokens, then {args.tokens} one by one;")
    print(f"the best of {args.rounds} rounds, in each of which both programs run\n")
    print("|  | tokens/s | llama.cpp | ratio | of a prompt, tokens/s | llama.cpp | ratio |")
    print("|---|---|---|---|---|---|---|")
    for ours, theirs in PAIRS:
        cells = [f"{ours}, {theirs}"]
        for what, digits in ((0, 1), (1, 0)):
            a = max(mine[ours][what] for mine, _ in rounds)
            b = max(other[theirs][what] for _, other in rounds)
            cells += [f"{a:.{digits}f}", f"{b:.{digits}f}", f"{a / b:.2f}"]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lib", required=True)
    parser.add_argument("--netweight", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    args = parser.parse_args()
    api, _quiet = load_library(args.lib)
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for _, kind in PAIRS:
            path = os.path.join(folder, f"{kind}.gguf")
            write_model(path, kind)
            models[kind] = Llama(api, path, args.threads)
            models[kind].measure(1)
        rounds = []
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
            mine = netweight(args)
            rounds.append((mine, {kind: model.measure(args.tokens) for kind, model in models.items()}))
    table(rounds, args)


main()
