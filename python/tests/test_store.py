"""Models in object stores: an S3 server on this machine, and files as objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netweight

pytest.importorskip("ray", reason="Ray is not installed: pip install './python[ray]'")

import fsspec

import netweight.ray
from netweight._store import Places

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


def test_finished_units_are_in_the_store(
    cluster: Any, store: Store, large: Path, tmp_path: Path
) -> None:
    class Lost(Exception):
        pass

    def lose(stage: str, done: int, every: int) -> None:
        if 0 < done < every:
            raise Lost

    source, target = store.put(large, large.name), f"{store.url}/out.nw.safetensors"
    rest = {"codec": SLOW, **arguments(store, tmp_path)}
    with pytest.raises(Lost):
        netweight.ray.compress(source, target, progress=lose, **rest)
    # The next driver is on another machine.
    shutil.rmtree(tmp_path / "scratch")
    seen: list[int] = []
    netweight.ray.compress(
        source, target, progress=lambda _stage, done, _every: seen.append(done), **rest
    )
    assert seen[0] > 0
    here = netweight.compress(large, tmp_path / "here.nw.safetensors", codec=SLOW)
    assert store.get("out.nw.safetensors") == here.read_bytes()
    assert not store.names("out.nw.safetensors.parts")


def test_a_source_that_changes_is_refused(
    store: Store, large: Path, stories: Path, tmp_path: Path
) -> None:
    source = store.put(large, "model.safetensors")
    places = Places.of([source], tmp_path / "out", store.options, tmp_path / "scratch")
    store.put(stories / "model.safetensors", "model.safetensors")
    with pytest.raises(netweight.NetweightError, match="changed since the job began"):
        places.fetch()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Places.of([f"{store.url}/nowhere"], tmp_path / "out", store.options, None)
