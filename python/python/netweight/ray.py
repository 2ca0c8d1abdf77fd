"""Compression and evaluation on a cluster, with Ray.

Models and targets are paths that all nodes see, such as those of a shared file system, or URLs of
an object store. A task gets paths and numbers; weights never go through Ray. Every node has the
package ``netweight``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from netweight import _netweight
from netweight._api import evaluated, packing_of, running_of, task_of
from netweight._netweight import NetweightError
from netweight._paths import Paths, StrPath, several
from netweight._progress import Progress, shown
from netweight._store import PLAN, Places, is_url

#: Weights of a task at most, unless one unit has more; tasks for each CPU at most, of small models.
_TASK = 64 << 20
_PER_CPU = 16
#: Tasks that are submitted for each CPU, and seconds between two looks at progress.
_WINDOW = 2
_LOOK = 0.2
#: Tensors that an error names.
_NAMED = 3


def compress(
    src: StrPath,
    dst: StrPath,
    recipe: StrPath = "lossless",
    address: str | None = None,
    *,
    codec: str | None = None,
    bases: Paths = (),
    seed: int = 0,
    threads: int = 1,
    retries: int = 3,
    force: bool = False,
    verify: bool = True,
    progress: Progress = False,
    storage_options: Mapping[str, Any] | None = None,
    scratch: StrPath | None = None,
) -> Path | str:
    """Pack a model on a cluster; the file has the same bytes as that of `netweight.compress`.

    The driver plans and commits; tasks encode the units between. A task that was lost with its
    worker or its node runs again, and so does one that cannot read or write. Finished units stay in
    a folder beside the target: after an error, and if the driver dies, the same call goes on.

    Of a model in an object store, the disk of the driver gets a copy, and that of another node the
    files that its tasks read. A result for an object store is put together on the driver's disk.
    These copies go at the end, but stay after an error. With ``force``, objects of the same names
    are replaced, and no others.

    Args:
        src: As for `netweight.compress`, on a path that all nodes see, or a URL of an object store
            that fsspec knows, such as ``"s3://bucket/model"``.
        dst: As for `netweight.compress`, on such a path, or such a URL.
        recipe: A built-in recipe or a recipe file.
        address: The cluster, as for ``ray.init``; not used if Ray runs already.
        codec: As for `netweight.compress`.
        bases: As for `netweight.compress`, on paths that all nodes see.
        seed: As for `netweight.compress`.
        threads: Threads, and CPUs, of a task.
        retries: How often a lost task runs again.
        force: Replace existing files.
        verify: Decode and check the packed file, on the driver.
        progress: True for a line on standard error, or a function of stage, done and all weights.
        storage_options: Options of the object store for fsspec.
        scratch: The folder for copies, of the same path on all nodes; by default one for the user
            in the folder for temporary files.

    Returns:
        The packed file, or the URL of the target.

    Raises:
        NetweightError: If a unit cannot be encoded; the message names the tensor and the recipe.
    """
    _check(threads)
    _start(address)
    seen = [_path(base) for base in several(bases)]
    places = Places.of([src], dst, storage_options or {}, scratch)
    result, target = places.result, Path(dst).absolute()
    if result is not None:
        target = result.place
        if not force:
            result.check_free()
    [source] = places.fetch()
    # What an earlier call has left on this disk is not in the way of a store.
    packing = packing_of(recipe, codec, seen, seed, force or result is not None, verify)
    plan = _netweight.Plan.make(source, target, packing)
    # What is in this folder is not in the way of the same call after an interruption.
    file = plan.parts / PLAN
    file.parent.mkdir(parents=True, exist_ok=True)
    plan.save(file)
    text = None
    if result is not None:
        result.resume(plan, file, force)
        text = ray.put(file.read_bytes())
    weights, missing = plan.weights(), plan.missing()
    every, done = sum(weights), sum(weights) - sum(weights[unit] for unit in missing)
    task = ray.remote(num_cpus=threads, max_retries=retries, retry_exceptions=[OSError])(_encode)

    def submit(units: list[int]) -> Any:
        name = f"netweight: units {units[0]} to {units[-1]} of {len(weights)}"
        return task.options(name=name).remote(str(file), text, units, threads, places)

    with shown(progress) as show:

        def look() -> None:
            if show is not None:
                show("encode", done, every)

        groups = list(_groups(missing, weights, _cpus()))
        for units, failure in _run(groups, submit, threads, look):
            if failure is not None:
                by = f"codec `{codec}`" if codec else f"recipe `{recipe}`"
                raise NetweightError(f"`{src}` with {by}: {failure}")
            if result is not None:
                result.fetch_parts(plan.part(unit) for unit in units)
            done += sum(weights[unit] for unit in units)
        file.unlink()
        written = plan.commit(verify, None, show)
    found = written if result is None else result.send(written)
    places.forget()
    return found


def evaluate(
    model: StrPath,
    texts: str | Sequence[str],
    *,
    reference: StrPath | None = None,
    first_window: bool = False,
    context: int | None = None,
    stride: int | None = None,
    windows: int | None = None,
    per_task: int = 16,
    threads: int = 1,
    retries: int = 3,
    address: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    scratch: StrPath | None = None,
) -> dict[str, Any]:
    """Measure on a cluster how well a language model predicts texts.

    Each task evaluates some windows of the texts, so the sums are those of `netweight.eval`.

    Args:
        model: As for `netweight.eval`, on a path that all nodes see, or a URL of an object store,
            of which each node gets a copy until the end.
        texts: A text, or several; not paths.
        reference: The model to compare with, likewise.
        first_window: Of each text, only the first window counts.
        context: Tokens of a window.
        stride: Tokens from one window to the next.
        windows: Only the first windows.
        per_task: Windows of a task.
        threads: Threads, and CPUs, of a task.
        retries: How often a lost task runs again.
        address: The cluster, as for ``ray.init``; not used if Ray runs already.
        storage_options: As for `compress`.
        scratch: As for `compress`.

    Returns:
        A dict with ``tokens``, ``nll``, ``perplexity`` and ``windows``; with a reference also
        ``kl``, ``top1`` and ``reference_perplexity``.
    """
    if per_task < 1:
        raise ValueError(f"per_task={per_task}; a task has at least one window")
    _check(threads)
    _start(address)
    models = [model] if reference is None else [model, reference]
    given = task_of(texts, first_window, context, stride)
    places = Places.of(models, None, storage_options or {}, scratch, repr((given, windows)))
    shared = ray.put(given)
    task = ray.remote(num_cpus=threads, max_retries=retries, retry_exceptions=[OSError])(_evaluate)

    def submit(part: tuple[int, int]) -> Any:
        name = f"netweight: {part[1]} windows from {part[0]}"
        return task.options(name=name).remote(places, shared, part, threads)

    limit = math.inf if windows is None else windows
    first = min(per_task, limit)
    sums = _Sums()
    parts: list[tuple[int, int]] = [(0, int(first))]
    # The first task tells how many windows there are.
    while parts:
        for _, found in _run(parts, submit, threads, lambda: None):
            if isinstance(found, str):
                raise NetweightError(f"`{model}`: {found}")
            sums.add(found)
        last = int(min(sums.all_windows, limit))
        parts = []
        if sums.windows == first < last:
            parts = [
                (skip, min(per_task, last - skip)) for skip in range(int(first), last, per_task)
            ]
    places.forget()
    return sums.result()


class _Sums:
    """Sums over windows of several tasks."""

    def __init__(self) -> None:
        self.tokens = self.windows = self.all_windows = 0
        self.nll = self.reference = self.kl = self.same = 0.0
        self.compared = False

    def add(self, found: dict[str, Any]) -> None:
        tokens: int = found["tokens"]
        self.tokens += tokens
        self.windows += found["windows"]
        self.all_windows = found["all_windows"]
        self.nll += found["nll"]
        if "kl" in found:
            self.compared = True
            self.kl += tokens * found["kl"]
            self.same += tokens * found["top1"]
            self.reference += tokens * math.log(found["reference_perplexity"])

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "tokens": self.tokens,
            "windows": self.windows,
            "nll": self.nll,
            "perplexity": math.exp(self.nll / self.tokens),
        }
        if self.compared:
            result["kl"] = self.kl / self.tokens
            result["top1"] = self.same / self.tokens
            result["reference_perplexity"] = math.exp(self.reference / self.tokens)
        return result


def _path(base: StrPath) -> Path:
    if is_url(base):
        raise ValueError(f"base `{base}`: give a path that all nodes see")
    return Path(base).absolute()


def _check(threads: int) -> None:
    if threads < 1:
        raise ValueError(f"threads={threads}; a task has at least one")


def _start(address: str | None) -> None:
    if not ray.is_initialized():
        ray.init(address=address)


def _cpus() -> float:
    return max(1.0, float(ray.cluster_resources().get("CPU", 1)))


def _groups(missing: Sequence[int], weights: Sequence[int], cpus: float) -> Iterator[list[int]]:
    """Units of each task: many at first, because a task costs time, and ever fewer, so that all
    CPUs end at about the same time.
    """
    left = sum(weights[unit] for unit in missing)
    least = left / (_PER_CPU * cpus)
    group: list[int] = []
    size = 0
    for unit in missing:
        if group and size + weights[unit] > min(_TASK, max(left / (2 * cpus), least)):
            yield group
            left -= size
            group, size = [], 0
        group.append(unit)
        size += weights[unit]
    if group:
        yield group


def _run(
    work: Sequence[Any], submit: Callable[[Any], Any], threads: int, look: Callable[[], None]
) -> Iterator[tuple[Any, Any]]:
    """Run tasks, a bounded number at a time, and give each with its result when it ends.

    After an error, and after Ctrl-C, it waits until the tasks that were submitted end, so that the
    next call does not meet them. They are not cancelled: if `ray.cancel` meets the end of a task,
    Ray 2.60 aborts the process.
    """
    waiting = iter(work)
    running: dict[Any, Any] = {}
    try:
        while True:
            while len(running) < max(1, int(_WINDOW * _cpus() / threads)):
                part = next(waiting, None)
                if part is None:
                    break
                running[submit(part)] = part
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK)
            look()
            for reference in ready:
                part = running.pop(reference)
                try:
                    found = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    # Without the traceback of the worker.
                    found = str(error.cause)
                except ray.exceptions.RayError as error:
                    found = f"the task was lost more often than it may run again: {error}"
                yield part, found
    finally:
        if running:
            ray.wait(list(running), num_returns=len(running))


def _encode(
    file: str, text: bytes | None, units: Sequence[int], threads: int, places: Places
) -> str | None:
    """Encode units in a worker. Return why one of them fails for good, or None. ``text`` is the
    plan, for nodes that do not see the disk of the driver.
    """
    if text is not None:
        places.receive(Path(file), text)
    plan = _netweight.Plan.load(file)
    for unit in units:
        try:
            places.fetch_unit(plan, unit)
            plan.run(unit, threads)
            if places.result is not None:
                places.result.send_part(plan.part(unit))
        except (NetweightError, ValueError, TypeError, KeyError) as error:
            names = plan.names(unit)
            more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
            tensors = ", ".join(f"`{name}`" for name in names[:_NAMED])
            return f"unit {unit} (tensors {tensors}{more}): {error}"
    return None


def _evaluate(
    places: Places,
    given: dict[str, Any],
    part: tuple[int, int],
    threads: int,
) -> dict[str, Any] | str:
    """Evaluate windows in a worker; why that fails for good."""
    task = {**given, "skip": part[0], "windows": part[1]}
    try:
        model, *others = places.fetch()
        reference = others[0] if others else None
        return evaluated(model, task, reference, running_of([], threads, "packed", None))
    except (NetweightError, ValueError, TypeError, KeyError) as error:
        return str(error)
