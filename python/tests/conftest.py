"""Paths and models that the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import netweight

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "assets/stories260k"


@pytest.fixture(scope="session")
def stories() -> Path:
    return STORIES


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in 8 bits per weight."""
    target = tmp_path_factory.mktemp("packed") / "int8"
    netweight.compress(STORIES, target, "int8")
    return target


@pytest.fixture(scope="session")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packed") / "lossless"
    netweight.compress(STORIES, target)
    return target


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2^25 weights in tensors of 2^22."""
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    draw = np.random.default_rng(0)
    save_file(
        {f"t{i}": draw.standard_normal((2048, 2048), dtype=np.float32) for i in range(8)}, path
    )
    return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of one CPU, which are processes of this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install './python[ray]'")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    settings = {"num_cpus": 1, "object_store_memory": 100 << 20}
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**settings, "include_dashboard": False}
    )
    made.extra = [made.add_node(**settings) for _ in range(2)]
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
