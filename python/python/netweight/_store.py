"""The places of a job on a cluster: paths that all nodes see, or object stores, with fsspec."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import fsspec
import ray
from filelock import FileLock
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from netweight._netweight import NetweightError, Plan
from netweight._paths import StrPath

#: What tells that an object has changed, in the words of several stores.
_MARKS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified")
#: Seconds to wait for the removal of copies.
_REMOVAL = 60


def _is_url(path: object) -> TypeGuard[str]:
    """Whether a path names an object of a store, such as ``s3://bucket/model``."""
    return isinstance(path, str) and "://" in path


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    store, root = fsspec.core.url_to_fs(url, **options)
    return store, root.rstrip("/")


def _mark(info: Mapping[str, Any]) -> str:
    known = next((str(info[key]) for key in _MARKS if info.get(key)), "")
    return f"{info['size']} {known}"


def _is_hidden(name: str) -> bool:
    """Whether a file is in a hidden directory, such as ``.git``, which is no part of a model."""
    return any(part.startswith(".") for part in name.split("/")[:-1])


@dataclass(frozen=True)
class Copy:
    """A model of a store, whose files are copied to the disk of a node when it needs them."""

    url: str
    options: dict[str, Any] = field(repr=False)
    #: The directory of the files on the disk.
    place: Path
    #: The model on the disk: this directory, or the only file.
    path: Path
    #: What each object was when the job began, by its name relative to the directory.
    marks: dict[str, str]

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any], job: Path) -> Copy:
        """Look what is there."""
        store, root = _opened(url, options)
        store.invalidate_cache()
        if not store.exists(root):
            raise FileNotFoundError(f"`{url}` is not there")
        found = store.find(root, detail=True)
        start = root.rpartition("/")[0] if store.isfile(root) else root
        marks = {name[len(start) + 1 :]: _mark(info) for name, info in found.items()}
        # Also `..`, which would lead out of the directory.
        marks = {name: mark for name, mark in marks.items() if name and not _is_hidden(name)}
        about = _short(repr((url, sorted(marks.items()))))
        place = job / about
        return cls(url, dict(options), place, place / root[len(start) + 1 :], marks)

    def fetch(self, names: Iterable[str] | None = None) -> None:
        """Copy these files, or all; a file that is there is not copied again."""
        store, root = _opened(self.url, self.options)
        if self.path != self.place:
            root = root.rpartition("/")[0]
        for name in self.marks if names is None else names:
            target = self.place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Beside the copy, which is to have nothing but the model.
            part = self.place.parent / f"{self.place.name}.{name.replace('/', '_')}.part"
            with FileLock(f"{part}.lock"):
                if target.exists():
                    continue
                store.get_file(f"{root}/{name}", str(part))
                store.invalidate_cache()
                if _mark(store.info(f"{root}/{name}")) != self.marks[name]:
                    raise NetweightError(f"`{self.url}`: `{name}` has changed since the job began")
                # A plan compares times, and copies on several nodes have different ones.
                os.utime(part, (0, 0))
                part.replace(target)


@dataclass(frozen=True)
class Result:
    """A packed model of a store, and what a job makes of it on the disk of a node."""

    url: str
    options: dict[str, Any] = field(repr=False)
    #: The packed file, or its directory.
    place: Path

    def check_free(self) -> None:
        """Refuse an object that exists, and a directory with content."""
        store, root = _opened(self.url, self.options)
        store.invalidate_cache()
        if store.exists(root) and (store.isfile(root) or store.find(root)):
            raise FileExistsError(f"`{self.url}` exists; force=True replaces it")

    def _part(self, root: str, part: Path) -> str:
        return f"{root}.parts/{part.name}"

    def send_part(self, part: Path) -> None:
        """Put a part of this disk into the store."""
        store, root = _opened(self.url, self.options)
        store.makedirs(f"{root}.parts", exist_ok=True)
        store.put_file(str(part), self._part(root, part))

    def parts(self) -> set[str]:
        """The names of the parts that the store has."""
        store, root = _opened(self.url, self.options)
        store.invalidate_cache()
        folder = f"{root}.parts"
        return {path.rpartition("/")[2] for path in store.find(folder)}

    def fetch_parts(self, parts: Iterable[Path]) -> None:
        """Get parts that the store has, unless this disk has them."""
        store, root = _opened(self.url, self.options)
        for part in parts:
            if not part.exists():
                part.parent.mkdir(parents=True, exist_ok=True)
                half = part.with_suffix(".half")
                store.get_file(self._part(root, part), str(half))
                half.replace(part)

    def send(self, written: Path) -> str:
        """Put the packed model into the store, the file that opens it last, and drop the parts."""
        store, root = _opened(self.url, self.options)
        others = (path for path in self.place.rglob("*") if path.is_file() and path != written)
        for path in [*sorted(others), written]:
            name = path.relative_to(self.place).as_posix()
            target = root if path == self.place else f"{root}/{name}"
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.put_file(str(path), target)
        store.invalidate_cache()
        if store.exists(f"{root}.parts"):
            store.rm(f"{root}.parts", recursive=True)
        return self.url


@dataclass(frozen=True)
class Places:
    """The models and the target of a job, on paths that all nodes see or in an object store."""

    #: A path, or a copy of what a store has.
    models: tuple[Path | Copy, ...]
    target: Path
    #: The target, if it is in a store.
    result: Result | None
    #: The folder of the job on the disk of each node.
    job: Path

    @classmethod
    def of(
        cls,
        models: Sequence[StrPath],
        target: StrPath,
        options: Mapping[str, Any],
        scratch: StrPath | None,
    ) -> Places:
        """Look what the stores have; nothing is copied."""
        place = Path(tempfile.gettempdir(), "netweight") if scratch is None else Path(scratch)
        about = repr(([str(model) for model in models], str(target)))
        job = place.absolute() / _short(about)
        found = tuple(
            Copy.of(model, options, job) if _is_url(model) else Path(model).absolute()
            for model in models
        )
        if not _is_url(target):
            return cls(found, Path(target).absolute(), None, job)
        result = Result(
            target, dict(options), job / "target" / target.rstrip("/").rpartition("/")[2]
        )
        return cls(found, result.place, result, job)

    def fetch(self) -> list[Path]:
        """Copy all files of all models; their paths on this node."""
        for model in self.models:
            if isinstance(model, Copy):
                model.fetch()
        return [model.path if isinstance(model, Copy) else model for model in self.models]

    def fetch_unit(self, plan: Plan, unit: int) -> None:
        """Copy what a unit reads: files of the first model, and the others whole."""
        source, *bases = self.models
        if isinstance(source, Copy):
            files = plan.files(unit)
            source.fetch(file.relative_to(source.place).as_posix() for file in files)
        for base in bases:
            if isinstance(base, Copy):
                base.fetch()

    def fetch_parts(self, plan: Plan, units: Iterable[int] | None = None) -> None:
        """Copy the parts of units that have run to the store of the target; by default of all."""
        if self.result is None:
            return
        if units is None:
            have = self.result.parts()
            parts = [plan.part(unit) for unit in range(len(plan.weights()))]
            self.result.fetch_parts(part for part in parts if part.name in have)
        else:
            self.result.fetch_parts(plan.part(unit) for unit in units)

    def forget(self) -> None:
        """Remove the copies on all nodes."""
        if self.result is None and not any(isinstance(model, Copy) for model in self.models):
            return
        task = ray.remote(num_cpus=0)(_remove)
        tasks = [
            task.options(
                name="netweight: remove copies",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True),
            ).remote(self.job)
            for node in ray.nodes()
            if node["Alive"]
        ]
        # A node that is lost meanwhile has taken its copies along.
        ray.wait(tasks, num_returns=len(tasks), timeout=_REMOVAL)


def _remove(job: Path) -> None:
    shutil.rmtree(job, ignore_errors=True)
