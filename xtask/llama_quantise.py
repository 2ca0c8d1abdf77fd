"""A GPT-2 through llama.cpp's own quantiser, and back into safetensors.

    python3 xtask/llama_quantise.py --lib DIR MODEL OUT --format q4_k [--statistics FILE]

MODEL is a directory of the Hugging Face layout with weights in F32. OUT becomes one with the values
of the quantised matrices, in F32, for `netweight eval`. FILE is what `netweight calibrate` has
written: the mean squares of the inputs are the importance matrix. All matrices but the positions
get the format. llama.py says what the script needs.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter

from gguf.quants import dequantize

from llama import ffi, gguf, gpt2_writer, load_library, np, write

# llama.cpp's number of a file whose matrices have mostly this format.
FORMATS = {"q4_0": 2, "q8_0": 7, "q2_k": 10, "q3_k": 12, "q4_k": 15, "q5_k": 17, "q6_k": 18}
# Names of a layer's parts, and of the rest.
LAYER = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
}
OTHER = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def gguf_name(name):
    """The name of a tensor in GGUF; none for a mask, which is no weight."""
    name, kind = name.removeprefix("transformer.").rsplit(".", 1)
    if name in OTHER:
        return f"{OTHER[name]}.{kind}"
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{LAYER[part]}.{kind}" if part in LAYER else None


def is_transposed(name, values):
    """Whether rows of the matrix are inputs."""
    return values.ndim == 2 and ".h." in f".{name}"


def read(path):
    """Tensors in F32 and the metadata of a safetensors file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, about in header.items():
        if about["dtype"] == "F32":
            first, end = about["data_offsets"]
            tensors[name] = np.frombuffer(data[first:end], np.float32).reshape(about["shape"])
    return tensors, metadata


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def write_gguf(path, tensors, config):
    sizes = [config[key] for key in ("n_layer", "n_embd", "n_head", "vocab_size", "n_positions")]
    out = gpt2_writer(path, *sizes)
    for name, values in tensors.items():
        if gguf_name(name):
            values = values.T if is_transposed(name, values) else values
            out.add_tensor(gguf_name(name), np.ascontiguousarray(values))
    write(out)


def importance(path):
    """Mean squares of the inputs of each matrix, by its name in GGUF."""
    tensors, metadata = read(path)
    layers = json.loads(metadata["netweight.calibration"])["tensors"]
    means = {}
    for name, about in layers.items():
        inputs = tensors[about["inputs"]]
        means[gguf_name(name)] = np.ascontiguousarray(np.diag(inputs) if inputs.ndim == 2 else inputs)
    return means


def quantise(api, source, target, number, means):
    options = api.llama_model_quantize_default_params()
    options.ftype, options.nthread, options.pure = number, 1, True
    kept = []
    if means:
        entries = ffi.new("struct llama_model_imatrix_data[]", len(means) + 1)
        for entry, (name, values) in zip(entries, means.items()):
            kept += [ffi.new("char[]", name.encode()), values]
            entry.name, entry.size = kept[-2], values.size
            entry.data = ffi.cast("float *", values.ctypes.data)
        options.imatrix = entries
    if api.llama_model_quantize(source.encode(), target.encode(), ffi.addressof(options)) != 0:
        sys.exit("error: llama.cpp does not quantise this model to the format")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lib", required=True, help="llama.cpp's libraries, as for `cargo xtask llamacpp`")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--statistics", help="what `netweight calibrate` has written")
    parser.add_argument("model")
    parser.add_argument("out")
    args = parser.parse_args()
    api, _quiet = load_library(args.lib)
    tensors, _ = read(os.path.join(args.model, "model.safetensors"))
    with open(os.path.join(args.model, "config.json")) as file:
        config = json.load(file)
    means = importance(args.statistics) if args.statistics else None
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ("dense.gguf", "quantised.gguf"))
        write_gguf(source, tensors, config)
        quantise(api, source, target, FORMATS[args.format], means)
        stored = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
        for name, values in tensors.items():
            if tensor := stored.get(gguf_name(name)):
                found = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
                found = found.reshape(tuple(map(int, reversed(tensor.shape))))
                tensors[name] = found.T if is_transposed(name, values) else found
        print(", ".join(f"{n} in {kind}" for kind, n in Counter(t.tensor_type.name for t in stored.values()).items()))
        print(f"{sum(int(tensor.n_bytes) for tensor in stored.values())} bytes of tensors")
    os.makedirs(args.out, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if os.path.exists(os.path.join(args.model, name)):
            shutil.copy(os.path.join(args.model, name), args.out)
    write_safetensors(os.path.join(args.out, "model.safetensors"), tensors)


main()
