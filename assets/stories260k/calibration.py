"""Writes calibration.safetensors: the mean square of each input of each linear layer.

Usage, in this folder: python3 calibration.py   (no packages needed; half a minute)

The inputs are those of text that the model itself writes: STORIES samples at temperature 1 from the
start token, TOKENS tokens each, drawn with a fixed random stream. The embedding is also the output
head, whose inputs count for it.
"""
import json
import math
import struct
from operator import mul

STORIES, TOKENS, BOS = 8, 192, 1


def read(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__":
            first, last = info["data_offsets"]
            values = struct.unpack(f"<{(last - first) // 4}f", data[first:last])
            width = info["shape"][-1]
            rows = [values[i : i + width] for i in range(0, len(values), width)]
            tensors[name] = rows if len(info["shape"]) == 2 else rows[0]
    return tensors


config = json.load(open("config.json"))
weights = read("model.safetensors")
HEADS, KV_HEADS = config["num_attention_heads"], config["num_key_value_heads"]
DIM = config["hidden_size"] // HEADS
sums, counts = {}, {}


def linear(name, x):
    total = sums.setdefault(name, [0.0] * len(x))
    for i, v in enumerate(x):
        total[i] += v * v
    counts[name] = counts.get(name, 0) + 1
    return [sum(map(mul, row, x)) for row in weights[name]]


def norm(name, x):
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + config["rms_norm_eps"])
    return [v * scale * w for v, w in zip(x, weights[name])]


def rotate(head, position):
    half = DIM // 2
    angles = [position * config["rope_theta"] ** (-2 * i / DIM) for i in range(half)]
    low = [head[i] * math.cos(a) - head[i + half] * math.sin(a) for i, a in enumerate(angles)]
    high = [head[i + half] * math.cos(a) + head[i] * math.sin(a) for i, a in enumerate(angles)]
    return low + high


def heads(x):
    return [x[i : i + DIM] for i in range(0, len(x), DIM)]


def softmax(x):
    most = max(x)
    powers = [math.exp(v - most) for v in x]
    total = sum(powers)
    return [p / total for p in powers]


def step(token, position, cache):
    x = list(weights["model.embed_tokens.weight"][token])
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        h = norm(at + "input_layernorm.weight", x)
        q, k, v = (heads(linear(f"{at}self_attn.{n}_proj.weight", h)) for n in "qkv")
        cache[layer].append(([rotate(head, position) for head in k], v))
        mixed = []
        for i, head in enumerate(q):
            head, kv = rotate(head, position), i // (HEADS // KV_HEADS)
            shares = softmax([sum(map(mul, head, k[kv])) / math.sqrt(DIM) for k, _ in cache[layer]])
            mixed += [sum(s * v[kv][j] for s, (_, v) in zip(shares, cache[layer])) for j in range(DIM)]
        x = [a + b for a, b in zip(x, linear(at + "self_attn.o_proj.weight", mixed))]
        h = norm(at + "post_attention_layernorm.weight", x)
        gate, up = (linear(f"{at}mlp.{n}_proj.weight", h) for n in ("gate", "up"))
        h = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]
        x = [a + b for a, b in zip(x, linear(at + "mlp.down_proj.weight", h))]
    return linear("model.embed_tokens.weight", norm("model.norm.weight", x))


def main():
    state = 1
    for _ in range(STORIES):
        token, cache = BOS, [[] for _ in range(config["num_hidden_layers"])]
        for position in range(TOKENS):
            shares = softmax(step(token, position, cache))
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            left = (state >> 11) / 2**53
            token = 0
            while left >= shares[token] and token + 1 < len(shares):
                left -= shares[token]
                token += 1
    header, data = {"__metadata__": {"axis": "columns"}}, b""
    for name in sorted(sums):
        means = [v / counts[name] for v in sums[name]]
        packed = struct.pack(f"<{len(means)}f", *means)
        header[name] = {"dtype": "F32", "shape": [len(means)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open("calibration.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    main()
