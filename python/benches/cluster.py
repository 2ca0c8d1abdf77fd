"""Compression of 1 GiB on a Ray cluster of three nodes on this machine, beside one process.

Run `python python/benches/cluster.py` in an environment with netweight[ray] and safetensors.
"""

from __future__ import annotations

import filecmp
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster
from safetensors.numpy import save_file

import netweight
import netweight.ray
from netweight._store import Places

CODECS = ("quant.int:bits=8", "trellis:bits=3:states=8")
NODES = 3

encode = netweight.ray._encode


def timed(file: str, text: None, units: Sequence[int], threads: int, places: Places) -> str | None:
    """Encode units, and leave the time that this took in a file beside the model's."""
    begin = time.perf_counter()
    failure = encode(file, text, units, threads, places)
    times = Path(file).parent.parent / "times"
    (times / f"{units[0]}").write_text(str(time.perf_counter() - begin))
    return failure


def main() -> None:
    """Measure and print."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    temporary = tempfile.TemporaryDirectory()
    place = Path(temporary.name)
    draw = np.random.default_rng(0)
    model = place / "model.safetensors"
    tensors = {f"w{i}": draw.standard_normal((2048, 2048), dtype=np.float32) for i in range(64)}
    save_file(tensors, model)
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(**node)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    # The workers import the package before anything is timed.
    ray.get([ray.remote(netweight.list_codecs).remote() for _ in range(2 * NODES)])
    netweight.ray._encode = timed
    for codec in sys.argv[1:] or CODECS:
        (place / "times").mkdir(exist_ok=True)
        here, there = place / "here.nw.safetensors", place / "there.nw.safetensors"
        netweight.compress(model, here, codec=codec, force=True)
        ends: list[float] = []

        def look(stage: str, _done: int, _every: int, ends: list[float] = ends) -> None:
            if stage == "encode":
                ends.append(time.perf_counter())

        begin = time.perf_counter()
        netweight.ray.compress(model, there, codec=codec, force=True, progress=look)
        tasks = [float(file.read_text()) for file in (place / "times").iterdir()]
        wall, share = ends[-1] - begin, sum(tasks) / NODES
        same = "equal bytes" if filecmp.cmp(here, there, shallow=False) else "OTHER BYTES"
        print(
            f"{codec}: {len(tasks)} tasks of {sum(tasks):.1f} s in all, encoded in {wall:.1f} s, "
            f"{100 * (wall / share - 1):.1f} % above a {NODES}rd of that; {same}",
            flush=True,
        )
        for file in (place / "times").iterdir():
            file.unlink()


if __name__ == "__main__":
    main()
