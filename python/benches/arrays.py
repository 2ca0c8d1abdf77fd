"""Time and memory of tensors as arrays, beside safetensors and the program's own measurement.

Run `python python/benches/arrays.py` in an environment with netweight and safetensors.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import netweight

#: 16 Mi weights.
SHAPE = (4096, 4096)
CODECS = ("lossless:level=fast", "quant.int:bits=4", "trellis:bits=3")
RUNS = 7


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def status(key: str) -> int:
    """Bytes of a line of this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise KeyError(key)


def most_memory(path: str, codec: str | None) -> float:
    """The most memory of a read or an encode, in sizes of the tensor, without what was there."""
    weights = None if codec is None else np.load(path + ".npy")
    netweight.list_codecs()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS:")
    if weights is None:
        with netweight.open(path) as file:
            kept = file["w"].sum()
    else:
        kept = netweight.encode(weights, codec or "").bits_per_weight
    assert kept is not None
    return (status("VmHWM:") - before) / (4 * SHAPE[0] * SHAPE[1])


def main() -> None:
    """Measure and print."""
    weights = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    place = tempfile.TemporaryDirectory()
    dense = str(Path(place.name) / "dense.safetensors")
    save_file({"w": weights}, dense)
    np.save(dense + ".npy", weights)

    with netweight.open(dense) as ours, safe_open(dense, "np") as theirs:
        reads = fastest(lambda: ours["w"]), fastest(lambda: theirs.get_tensor("w"))
        sums = fastest(lambda: ours["w"].sum()), fastest(lambda: theirs.get_tensor("w").sum())
    print(
        f"f[name] of a dense tensor: {1e6 * reads[0]:.0f} us, safetensors {1e3 * reads[1]:.1f} ms"
    )
    print(f"with its sum: {sums[0] / sums[1]:.2f} of the time of safetensors")

    process = multiprocessing.get_context("spawn")
    decoded = np.empty_like(weights)
    for codec in CODECS:
        [row] = netweight.bench({"w": weights}, [codec])
        encoded = netweight.encode(weights, codec)
        megabytes = weights.nbytes / 1e6
        speeds = {
            "encode": megabytes / fastest(lambda c=codec: netweight.encode(weights, c)),
            "decode into the same memory": megabytes
            / fastest(lambda e=encoded: e.decode(out=decoded)),
            "decode": megabytes / fastest(encoded.decode),
        }
        # The harness decodes into the same memory, too.
        rust = {key: row[f"{key.split()[0]}_mb_per_s"] for key in speeds}
        shown = [f"{key} {speed / rust[key]:.2f}" for key, speed in speeds.items()]
        packed = str(Path(place.name) / "packed.nw.safetensors")
        netweight.compress(dense, packed, codec=codec, force=True)
        with process.Pool(1, maxtasksperchild=1) as pool:
            # Without the pages of the mapped file.
            mapped = Path(packed).stat().st_size / weights.nbytes
            read = pool.apply(most_memory, (packed, None)) - mapped
        with process.Pool(1, maxtasksperchild=1) as pool:
            encode = pool.apply(most_memory, (dense, codec))
        print(
            f"{codec}: {', '.join(shown)} of the speed in Rust; "
            f"memory of a packed read {read:.2f}, of an encode {encode:.2f} tensors, of which "
            f"{encoded.nbytes / weights.nbytes:.2f} are the result"
        )


if __name__ == "__main__":
    main()
