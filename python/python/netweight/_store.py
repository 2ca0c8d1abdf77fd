"""The places of a job on a cluster: paths that all nodes see, or object stores, with fsspec."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from netweight._netweight import NetweightError, Plan
from netweight._paths import StrPath

#: What tells that an object has changed, in the words of several stores.
_MARKS = (
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "blob_id",
    "mtime",
    "LastModified",
    "last_modified",
)
#: The plan among the parts: an interrupted call with an equal plan goes on.
PLAN = "plan.json"
#: Seconds to wait for the removal of copies.
_REMOVAL = 60


def is_url(path: object) -> TypeGuard[str]:
    """Whether a path names an object of a store, such as ``s3://bucket/model``."""
    return isinstance(path, str) and "://" in path


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _store(url: str, options: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Open a store, and give it with the path of this URL in it. Its errors become `OSError`, after
    which Ray runs a task again.
    """
    # Only jobs with object stores need it.
    import fsspec

    try:
        store, root = fsspec.core.url_to_fs(url, **options)
        store.invalidate_cache()
        yield store, root.rstrip("/")
    except (OSError, NetweightError, ValueError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"`{url}`: {error}") from error


def _marks(store: Any, root: str) -> dict[str, str]:
    """What the objects at or below this path are now, by their names relative to it."""
    marks = {}
    for path, info in store.find(root, detail=True).items():
        known = next((str(info[key]) for key in _MARKS if info.get(key)), "")
        # Some programs mark folders by objects whose names end with a slash.
        if not path.endswith("/"):
            marks[path[len(root) + 1 :]] = f"{info['size']} {known}"
    return marks


def _is_part_of_model(name: str) -> bool:
    """Whether an object is part of a model; hidden folders, such as ``.git``, are not."""
    *folders, last = name.split("/")
    if any(part in ("", ".", "..") for part in (*folders, last)):
        raise NetweightError(f"the object `{name}` has no name for a file")
    return not any(part.startswith(".") for part in folders)


def _put(store: Any, path: Path, target: str) -> None:
    try:
        store.put_file(str(path), target)
    except FileNotFoundError:
        # A store with folders.
        store.makedirs(target.rpartition("/")[0], exist_ok=True)
        store.put_file(str(path), target)


@dataclass(frozen=True)
class Copy:
    """A model of a store, whose files are copied to the disk of a node when it needs them."""

    url: str
    options: dict[str, Any] = field(repr=False)
    #: The directory of the files on the disk.
    place: Path
    #: The name of the model, if it is a file of this directory.
    file: str
    #: What each object was when the job began, by its name relative to the directory.
    marks: dict[str, str]

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any], job: Path) -> Copy:
        """Look what is there."""
        if url.endswith(".json"):
            raise ValueError(f"`{url}`: of a model in several files, give the directory")
        with _store(url, options) as (store, root):
            found = _marks(store, root)
        if not found:
            raise FileNotFoundError(f"`{url}` is not there")
        file = root.rpartition("/")[2] if list(found) == [""] else ""
        marks = {}
        for name, mark in found.items():
            if _is_part_of_model(name or file):
                marks[name or file] = mark
        about = _short(repr((url, sorted(marks.items()))))
        return cls(url, dict(options), job / about, file, marks)

    @property
    def path(self) -> Path:
        """The model on the disk."""
        return self.place / self.file

    def fetch(self, names: Iterable[str] | None = None) -> None:
        """Copy these files, or all; a file that is there is not copied again."""
        from filelock import FileLock

        for name in self.marks if names is None else names:
            target = self.place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Beside the copy, which is to have nothing but the model.
            part = self.place.parent / f"{self.place.name}.{name.replace('/', '_')}.part"
            with FileLock(f"{part}.lock"):
                if not target.exists():
                    self._fetch(name, part)
                    # A plan compares times, and copies on several nodes have different ones.
                    os.utime(part, (0, 0))
                    part.replace(target)

    def _fetch(self, name: str, part: Path) -> None:
        with _store(self.url, self.options) as (store, root):
            path = root if self.file else f"{root}/{name}"
            store.get_file(path, str(part))
            store.invalidate_cache()
            if _marks(store, path) != {"": self.marks[name]}:
                raise NetweightError(f"`{self.url}`: `{name}` has changed since the job began")


@dataclass(frozen=True)
class Result:
    """A packed model of a store, and what a job makes of it on the disk of a node."""

    url: str
    options: dict[str, Any] = field(repr=False)
    #: The packed file, or its directory.
    place: Path

    def check_free(self, plan: Path | None = None) -> None:
        """Refuse an object that exists, and a directory with content, unless a call was interrupted
        at its end: a call with an equal plan, if this is known.
        """
        with _store(self.url, self.options) as (store, root):
            if not _marks(store, root):
                return
            saved = f"{root}.parts/{PLAN}"
            began = store.exists(saved)
            if not began or (plan is not None and store.cat_file(saved) != plan.read_bytes()):
                raise FileExistsError(f"`{self.url}` exists; force=True replaces it")

    def send_part(self, part: Path) -> None:
        """Copy a part, or the plan, to the store."""
        with _store(self.url, self.options) as (store, root):
            _put(store, part, f"{root}.parts/{part.name}")

    def parts(self) -> set[str]:
        """The names of the parts that the store has."""
        with _store(self.url, self.options) as (store, root):
            return set(_marks(store, f"{root}.parts"))

    def fetch_parts(self, parts: Iterable[Path]) -> None:
        """Copy parts from the store, unless this disk has them."""
        with _store(self.url, self.options) as (store, root):
            for part in parts:
                if not part.exists():
                    part.parent.mkdir(parents=True, exist_ok=True)
                    half = part.with_suffix(".half")
                    store.get_file(f"{root}.parts/{part.name}", str(half))
                    half.replace(part)

    def resume(self, plan: Plan, file: Path, force: bool) -> None:
        """Take over the parts of an interrupted call with an equal plan, whose file this is."""
        if not force:
            self.check_free(file)
        have = self.parts()
        parts = [plan.part(unit) for unit in range(len(plan.weights()))]
        self.fetch_parts(part for part in parts if part.name in have)
        # Parts of other plans would be in the way of those that tasks send.
        for unit in plan.missing():
            plan.part(unit).unlink(missing_ok=True)
        self.send_part(file)
        self._clear(plan.parts)

    def _clear(self, parts: Path) -> None:
        """Remove what an earlier call has left on this disk, but not the parts."""
        for path in self.place.iterdir() if self.place.is_dir() else [self.place]:
            if path.is_dir() and path != parts:
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()

    def send(self, written: Path) -> str:
        """Copy the packed model to the store, the file that opens it last, and remove the parts."""
        others = (path for path in self.place.rglob("*") if path.is_file() and path != written)
        with _store(self.url, self.options) as (store, root):
            for path in [*sorted(others), written]:
                name = path.relative_to(self.place).as_posix()
                _put(store, path, root if path == self.place else f"{root}/{name}")
            store.invalidate_cache()
            if store.exists(f"{root}.parts"):
                store.rm(f"{root}.parts", recursive=True)
        return self.url


@dataclass(frozen=True)
class Places:
    """The models and the target of a job, on paths that all nodes see or in an object store."""

    #: A path, or a copy of what a store has.
    models: tuple[Path | Copy, ...]
    #: The target, if there is one in a store.
    result: Result | None
    #: The folder of the job on the disk of each node.
    job: Path

    @classmethod
    def of(
        cls,
        models: Sequence[StrPath],
        target: StrPath | None,
        options: Mapping[str, Any],
        scratch: StrPath | None,
        name: str = "",
    ) -> Places:
        """Look what the stores have; nothing is copied. Of two jobs with the same models, target
        and name, the second goes on with what the first has left.
        """
        usual = Path(tempfile.gettempdir(), f"netweight-{getpass.getuser()}")
        about = repr(([*map(str, models)], str(target), name))
        # Plans have paths without links.
        job = Path(usual if scratch is None else scratch).resolve() / _short(about)
        found = tuple(
            Copy.of(model, options, job) if is_url(model) else Path(model).absolute()
            for model in models
        )
        if not is_url(target):
            return cls(found, None, job)
        with _store(target, options) as (_, root):
            if "/" not in root:
                raise ValueError(f"`{target}` is a bucket; give a name in it")
        for model in filter(is_url, models):
            one, other = (f"{url.rstrip('/')}/" for url in (model, target))
            if one.startswith(other) or other.startswith(one):
                raise ValueError(f"`{target}` and `{model}` lie inside each other")
        place = job / "target" / target.rstrip("/").rpartition("/")[2]
        return cls(found, Result(target, dict(options), place), job)

    def fetch(self) -> list[Path]:
        """Copy all files of all models; their paths on this node."""
        for model in self.models:
            if isinstance(model, Copy):
                self._begin()
                model.fetch()
        return [model.path if isinstance(model, Copy) else model for model in self.models]

    def fetch_unit(self, plan: Plan, unit: int) -> None:
        """Copy what a unit reads of the first model."""
        source = self.models[0]
        if isinstance(source, Copy):
            self._begin()
            files = plan.files(unit)
            if files is None:
                # A model of expressions reads files of others.
                source.fetch()
            else:
                source.fetch(file.relative_to(source.place).as_posix() for file in files)

    def receive(self, plan: Path, text: bytes) -> None:
        """Write the file of the plan, which other tasks of this node may read."""
        self._begin()
        if plan.exists() and plan.read_bytes() == text:
            return
        plan.parent.mkdir(parents=True, exist_ok=True)
        part = plan.with_suffix(f".{uuid.uuid4().hex}")
        part.write_bytes(text)
        part.replace(plan)

    def _begin(self) -> None:
        # Other users of the node neither read nor replace copies.
        self.job.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def forget(self) -> None:
        """Remove the copies on all nodes."""
        if self.result is None and not any(isinstance(model, Copy) for model in self.models):
            return
        # The driver may be on none of them.
        _remove(self.job)
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
