"""Compression and evaluation on a cluster of three nodes on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import netweight

pytest.importorskip("ray", reason="Ray is not installed: pip install './python[ray]'")

import netweight.ray

#: Slow enough that a worker or a node can be lost meanwhile.
SLOW = "trellis:bits=3:states=64"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "model.safetensors"
    draw = np.random.default_rng(0)
    tensors = {f"t{i}": draw.standard_normal((1024, 1024), dtype=np.float32) for i in range(12)}
    save_file(tensors, path)
    return path


def same(model: Path, place: Path, during: Callable[[], object] = lambda: None) -> None:
    """Pack here and on the cluster, while something happens; both files are equal."""
    here = netweight.compress(model, place / "here.nw.safetensors", codec=SLOW)
    thread = threading.Thread(target=during)
    thread.start()
    there = netweight.ray.compress(model, place / "there.nw.safetensors", codec=SLOW)
    thread.join()
    assert there.read_bytes() == here.read_bytes()
    left = {path.name for path in place.iterdir()}
    assert left == {"here.nw.safetensors", "there.nw.safetensors"}


def kill_a_worker() -> None:
    """Kill a process that encodes, when there is one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes()
            except OSError:
                continue
            if words.startswith(b"ray::netweight: units"):
                os.kill(int(process.parent.name), signal.SIGKILL)
                return
        time.sleep(0.02)
    raise AssertionError("no worker was seen")


@pytest.mark.parametrize("cpus", [1, 3, 1000])
@pytest.mark.parametrize("weights", [[4 << 20] * 64, [100 << 20, 1, 2, 3], [1], []])
def test_tasks_have_each_unit_once_and_get_smaller(cpus: float, weights: list[int]) -> None:
    groups = list(netweight.ray._groups(range(len(weights)), weights, cpus))
    assert [unit for group in groups for unit in group] == list(range(len(weights)))
    assert all(len(group) == 1 or sum(weights[i] for i in group) <= 64 << 20 for group in groups)
    if len(set(weights)) == 1:
        sizes = [len(group) for group in groups]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] <= max(1, len(weights) / (16 * cpus))


def test_the_bytes_are_those_of_one_process(cluster: Any, model: Path, tmp_path: Path) -> None:
    same(model, tmp_path)


def test_a_lost_worker_costs_its_units_only(cluster: Any, model: Path, tmp_path: Path) -> None:
    same(model, tmp_path, kill_a_worker)


def test_a_lost_node_costs_its_units_only(cluster: Any, model: Path, tmp_path: Path) -> None:
    def lose() -> None:
        time.sleep(1.5)
        cluster.remove_node(cluster.extra.pop(), allow_graceful=False)

    same(model, tmp_path, lose)


def test_an_error_names_tensor_and_recipe(cluster: Any, model: Path, tmp_path: Path) -> None:
    class Zero:
        def cost(self, shape: tuple[int, int]) -> int:
            return 1

        def encode(self, weights: Any) -> dict[str, Any]:
            return {"zero": np.zeros(1, dtype=np.uint8)}

        def decode(self, sections: Any, shape: tuple[int, int]) -> Any:
            return np.zeros(shape, dtype=np.float32)

    # The workers do not know it.
    spec = netweight.register_codec("zero", Zero)
    with pytest.raises(netweight.NetweightError) as caught:
        netweight.ray.compress(model, tmp_path / "o.nw.safetensors", codec=spec)
    said = str(caught.value)
    assert f"codec `{spec}`" in said and "tensors `t" in said and "Traceback" not in said, said
    assert not (tmp_path / "o.nw.safetensors").exists()


def test_a_directory_is_a_target_again_after_an_error(
    cluster: Any, stories: Path, tmp_path: Path
) -> None:
    def stop(stage: str, done: int, every: int) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "packed"
    with pytest.raises(KeyboardInterrupt):
        netweight.ray.compress(stories, target, "int8", progress=stop)
    written = netweight.ray.compress(stories, target, "int8")
    here = netweight.compress(stories, tmp_path / "here", "int8")
    assert written.read_bytes() == here.read_bytes()
    names = {path.name for path in target.iterdir()}
    assert names == {path.name for path in (tmp_path / "here").iterdir()}


def test_the_same_call_goes_on(cluster: Any, model: Path, tmp_path: Path) -> None:
    class Lost(Exception):
        pass

    def progress(stage: str, done: int, every: int) -> None:
        if 0 < done < every:
            raise Lost

    target = tmp_path / "o.nw.safetensors"
    with pytest.raises(Lost):
        netweight.ray.compress(model, target, codec=SLOW, progress=progress)
    seen: list[int] = []
    netweight.ray.compress(
        model, target, codec=SLOW, progress=lambda _stage, done, _every: seen.append(done)
    )
    assert seen[0] > 0
    assert netweight.verify(target, against=model) == []


def test_sums_are_those_of_one_process(cluster: Any, stories: Path, packed: Path) -> None:
    texts = [f"Once upon a time there was a cat. It had {i} hats and a red ball." for i in range(9)]
    usual = {"reference": stories, "first_window": True}
    here = netweight.eval(packed, texts, threads=1, **usual)
    there = netweight.ray.evaluate(packed, texts, per_task=2, **usual)
    assert there["tokens"] == here["tokens"] and there["windows"] == 9
    for key in ("nll", "perplexity", "kl", "top1", "reference_perplexity"):
        assert there[key] == pytest.approx(here[key], rel=1e-9)
    few = netweight.ray.evaluate(packed, texts, per_task=2, windows=3, **usual)
    assert few["windows"] == 3
    with pytest.raises(ValueError, match="threads=0"):
        netweight.ray.compress(packed, "unused", threads=0)
    with pytest.raises(ValueError, match="per_task=0"):
        netweight.ray.evaluate(packed, texts, per_task=0)
    with pytest.raises(netweight.NetweightError, match="window"):
        netweight.ray.evaluate(packed, texts, context=100_000)
