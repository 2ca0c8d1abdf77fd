"""Models in object stores: an S3 server on this machine, and files as objects."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import netweight
from netweight._api import packing_of
from netweight._netweight import Plan

pytest.importorskip("ray", reason="Ray is not installed: pip install './python[ray]'")

import fsspec

import netweight.ray
from netweight._store import Places, _is_part_of_model

SLOW = "trellis:bits=3:states=64"


class Store:
    """An empty place of a store."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url, self.options = url, options
        self.files, self.root = fsspec.core.url_to_fs(url, **options)

    def put(self, path: Path, name: str) -> str:
        self.files.put(str(path), f"{self.root}/{name}", recursive=True)
        return f"{self.url}/{name}"

    def get(self, name: str) -> bytes:
        self.files.invalidate_cache()
        content: bytes = self.files.cat_file(f"{self.root}/{name}")
        return content

    def names(self, name: str) -> set[str]:
        self.files.invalidate_cache()
        start = f"{self.root}/{name}"
        return {path[len(start) + 1 :] for path in self.files.find(start)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = pytest.importorskip("moto.server", reason="moto is not installed: an S3 server")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = server.ThreadedMotoServer(port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store(f"file://{tmp_path}/store", {"auto_mkdir": True})
    options = {
        "key": "any",
        "secret": "any",
        "client_kwargs": {"endpoint_url": request.getfixturevalue("server")},
    }
    made = Store(f"s3://{tmp_path.name.replace('_', '-').lower()}", options)
    made.files.mkdir(made.root)
    return made


def arguments(store: Store, tmp_path: Path) -> dict[str, Any]:
    return {"storage_options": store.options, "scratch": tmp_path / "scratch"}


def test_a_directory_becomes_that_of_one_process(
    cluster: Any, store: Store, stories: Path, tmp_path: Path
) -> None:
    source, target = store.put(stories, "model"), f"{store.url}/packed"
    rest = arguments(store, tmp_path)
    assert netweight.ray.compress(source, target, "int8", **rest) == target
    here = tmp_path / "here"
    netweight.compress(stories, here, "int8")
    assert store.names("packed") == {path.name for path in here.iterdir()}
    for path in here.iterdir():
        assert store.get(f"packed/{path.name}") == path.read_bytes()
    assert not store.names("packed.parts")
    assert not list((tmp_path / "scratch").iterdir())

    with pytest.raises(FileExistsError, match="force=True"):
        netweight.ray.compress(source, target, "int8", **rest)
    netweight.ray.compress(source, target, "q4", force=True, **rest)
    netweight.compress(stories, tmp_path / "q4", "q4")
    name = "model.nw.safetensors"
    assert store.get(f"packed/{name}") == (tmp_path / "q4" / name).read_bytes()

    texts = ["Once upon a time there was a cat.", "It had a red ball."]
    there = netweight.ray.evaluate(target, texts, reference=source, **rest)
    found = netweight.eval(tmp_path / "q4", texts, reference=stories)
    assert there["nll"] == pytest.approx(found["nll"]) and there["kl"] == pytest.approx(found["kl"])
    assert not list((tmp_path / "scratch").iterdir())


class Lost(Exception):
    pass


def lose(stage: str, done: int, every: int) -> None:
    if 0 < done < every:
        raise Lost


def test_finished_units_are_in_the_store(
    cluster: Any, store: Store, large: Path, tmp_path: Path
) -> None:
    source, target = store.put(large, large.name), f"{store.url}/out.nw.safetensors"
    rest = arguments(store, tmp_path)
    # Parts of another plan are in the store and on the disk of the driver.
    with pytest.raises(Lost):
        netweight.ray.compress(source, target, codec="quant.int:bits=8", progress=lose, **rest)
    with pytest.raises(Lost):
        netweight.ray.compress(source, target, codec=SLOW, progress=lose, **rest)
    # The next driver is on another machine, where the folder has the same path.
    (tmp_path / "scratch").rename(tmp_path / "gone")
    seen: list[int] = []
    netweight.ray.compress(
        source,
        target,
        codec=SLOW,
        progress=lambda _stage, done, _every: seen.append(done),
        **rest,
    )
    assert seen[0] > 0
    here = netweight.compress(large, tmp_path / "here.nw.safetensors", codec=SLOW)
    assert store.get("out.nw.safetensors") == here.read_bytes()
    assert not store.names("out.nw.safetensors.parts")


def test_a_node_copies_what_its_units_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    weights = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        save_file({f"t{i}": weights + i}, tmp_path / "model" / name)
    index = {"metadata": {}, "weight_map": {f"t{i}": name for i, name in enumerate(names)}}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps(index))
    source = store.put(tmp_path / "model", "model")
    # Plans have paths without links.
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    places = Places.of([source], f"{store.url}/packed", store.options, tmp_path / "link")
    [driver] = places.fetch()
    assert places.result is not None
    packing = packing_of("lossless", "quant.int:bits=8", [], 0, False, True)
    plan = Plan.make(driver, places.result.place, packing)
    plan.save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_bytes()
    unit = next(unit for unit in range(len(plan.weights())) if plan.names(unit) == ["t1"])
    # Another node has nothing yet.
    shutil.rmtree(places.job)
    file = plan.parts / "plan.json"
    assert netweight.ray._encode(str(file), text, [unit], 1, places) is None
    assert [path.name for path in driver.iterdir()] == [names[1]]
    assert store.names("packed.parts") == {plan.part(unit).name}
    assert store.get(f"packed.parts/{plan.part(unit).name}") == plan.part(unit).read_bytes()


def test_an_interrupted_copy_of_the_result_goes_on(
    store: Store, stories: Path, tmp_path: Path
) -> None:
    places = Places.of([stories], f"{store.url}/packed", store.options, tmp_path / "scratch")
    assert places.result is not None
    places.result.check_free()
    plan, other = tmp_path / "plan.json", tmp_path / "other.json"
    plan.write_text("a plan")
    other.write_text("another plan")
    places.result.send_part(plan)
    store.put(stories / "config.json", "packed/config.json")
    places.result.check_free()
    places.result.check_free(plan)
    with pytest.raises(FileExistsError, match="force=True"):
        places.result.check_free(other)


def test_a_source_that_changes_is_refused(store: Store, large: Path, tmp_path: Path) -> None:
    source = store.put(large, "model.safetensors")
    places = Places.of([source], tmp_path / "out", store.options, tmp_path / "scratch")
    content = bytearray(large.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed").write_bytes(content)
    store.put(tmp_path / "changed", "model.safetensors")
    with pytest.raises(netweight.NetweightError, match="changed since the job began"):
        places.fetch()


def test_wrong_urls(store: Store, stories: Path, tmp_path: Path) -> None:
    source = store.put(stories, "model")
    for model, target, says in [
        (f"{store.url}/nowhere", "out", "is not there"),
        (source, f"{source}/packed", "inside each other"),
        (f"{source}/model.safetensors.index.json", "out", "give the directory"),
    ]:
        with pytest.raises((OSError, ValueError), match=says):
            Places.of([model], target, store.options, tmp_path)
    with pytest.raises(ValueError, match="that all nodes see"):
        netweight.ray._path(source)
    for name in ("..", "a/../b", "/etc/b", "a//b"):
        with pytest.raises(netweight.NetweightError, match="no name for a file"):
            _is_part_of_model(name)
    assert not _is_part_of_model("a/.git/b") and _is_part_of_model("a/.b")
