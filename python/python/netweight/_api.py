"""The functions on whole models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, NamedTuple

from netweight import _netweight
from netweight._arrays import given
from netweight._paths import Paths, StrPath, several
from netweight._progress import Progress, shown


class Spec(NamedTuple):
    """Dtype and shape of a tensor."""

    #: As in safetensors files: ``"F32"``, ``"BF16"``, ``"I64"`` and so on.
    dtype: str
    shape: tuple[int, ...]


def compress(
    src: StrPath,
    dst: StrPath,
    recipe: StrPath = "lossless",
    *,
    codec: str | None = None,
    bases: Paths = (),
    seed: int = 0,
    threads: int | None = None,
    force: bool = False,
    verify: bool = True,
    progress: Progress = False,
) -> Path:
    """Pack a model, as ``netweight compress``.

    The packed file gets its name when all of it is there and, with ``verify``, is checked. After
    Ctrl-C, the same call goes on with the finished parts.

    Args:
        src: A ``.safetensors`` file, an index, or a model directory.
        dst: The packed file (``*.nw.safetensors``), or a directory for it; of a model directory,
            the other files are copied there.
        recipe: A built-in recipe (``lossless``, ``int8``, ``q4``, ``nf4``, ``trellis-3bit``, …) or
            a recipe file; ``netweight compress --help`` describes both.
        codec: In place of the recipe, a codec for the float tensors of two or more axes, such as
            ``"quant.int:bits=4:group=64"`` or ``"best:error=0.01"``; all others are stored exactly.
        bases: Store tensors relative to this model; a second one is the base of a packed base.
        seed: Seed of codecs that use random numbers. It does not depend on ``threads``.
        threads: Number of threads.
        force: Replace existing files.
        verify: Decode and check the packed file.
        progress: True for a line on standard error, or a function of stage, done and all weights.

    Returns:
        The packed file; of several files, their index.

    Raises:
        FileExistsError: If the target is in the way.
        NetweightError: And others, if the model cannot be read or packed.
    """
    with shown(progress) as show:
        packing = packing_of(recipe, codec, bases, seed, force, verify)
        return Path(_netweight.compress(src, dst, packing, threads, show))


def packing_of(
    recipe: StrPath, codec: str | None, bases: Paths, seed: int, force: bool, verify: bool
) -> dict[str, object]:
    """Give what the extension module asks of a compression."""
    return {
        "recipe": fspath(recipe),
        "codec": codec,
        "bases": several(bases),
        "seed": seed,
        "force": force,
        "verify": verify,
    }


def decompress(
    src: StrPath,
    dst: StrPath,
    *,
    bases: Paths = (),
    level: int | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress = False,
) -> None:
    """Write the dense model of a packed one, or of a model of expressions.

    Tensors of exact codecs come back bit for bit. Every checksum and hash is compared.

    Args:
        src: A packed file, or a directory with one.
        dst: A directory; for a model that was one file also the name of that file
            (``*.safetensors``).
        bases: The models that it is relative to, if they are not where they were.
        level: Quality level of a model that has several, 0 for the coarsest; by default the best.
        threads: Number of threads.
        force: Replace existing files.
        progress: As for `compress`.

    Raises:
        FileNotFoundError: If there is no model.
        FileExistsError: If the target exists; ``force`` replaces it.
        NetweightError: If the file is damaged, or a base is missing.
    """
    with shown(progress) as show:
        _netweight.decompress(src, dst, several(bases), (level, force), threads, show)


def verify(
    path: StrPath,
    *,
    against: StrPath | None = None,
    bases: Paths = (),
    threads: int | None = None,
    progress: Progress = False,
) -> list[str]:
    """Decode a packed model, and compare every section with its checksum and hash.

    Args:
        path: The packed model.
        against: The model that was packed: values must be within their certificates.
        bases: The models that it is relative to, if they are not where they were.
        threads: Number of threads.
        progress: As for `compress`.

    Returns:
        The faults as sentences; an empty list if all is right.

    Raises:
        FileNotFoundError: If there is no model.
        NetweightError: If the header cannot be read, or a base is missing.
    """
    with shown(progress) as show:
        return _netweight.verify(path, against, several(bases), threads, show)


def info(path: StrPath, *, bases: Paths = ()) -> dict[str, Any]:
    """Describe a model, dense or packed; reads no weights.

    Args:
        path: The model.
        bases: The models that it is relative to, if they are not where they were.

    Returns:
        A dict. ``tensors`` is a list of dicts, one for each tensor: ``name``, ``dtype``, ``shape``,
        ``bytes``; of a packed model also ``codec``, ``bits_per_weight``, ``certificate``,
        ``relative_error`` and others. ``kind``, ``weights`` and ``bytes`` are
        those of the model.
    """
    found: dict[str, Any] = json.loads(_netweight.info(path, several(bases)))
    return found


def diff(
    first: StrPath,
    second: StrPath,
    *,
    bases: Paths = (),
    threads: int | None = None,
    progress: Progress = False,
) -> list[dict[str, Any]]:
    """Compare two models, dense or packed, tensor by tensor.

    Args:
        first: A model.
        second: The other one.
        bases: The models that they are relative to, if they are not where they were.
        threads: Number of threads.
        progress: As for `compress`.

    Returns:
        A dict for each tensor of either model: ``name``, ``change`` (``"identical"``,
        ``"changed"``, ``"new"``, ``"removed"``, ``"reshaped"``, ``"other_dtype"``), the specs
        ``first`` and ``second``, and where elements were compared, the number of ``changed`` ones,
        ``changed_share``, ``relative_difference`` (``‖a − b‖ / ‖a‖``) and ``max_abs_difference``.
    """
    with shown(progress) as show:
        text = _netweight.diff(first, second, several(bases), threads, show)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def list_codecs() -> list[dict[str, Any]]:
    """List the codecs and their presets.

    Returns:
        A dict for each codec: ``id``, ``summary``, ``experimental`` and others, and ``presets``, a
        list of dicts with ``name``, the spec ``codec``, and ``bits_per_weight``, least and most of
        an F32 matrix of 1024 rows and columns.
    """
    found: list[dict[str, Any]] = json.loads(_netweight.list_codecs())
    return found


def bench(
    tensors: StrPath | Mapping[str, object] | Sequence[object],
    codecs: str | Sequence[str] = (),
    *,
    seed: int = 0,
    progress: Progress = False,
) -> list[dict[str, Any]]:
    """Measure codecs on tensors, on one thread.

    Each tensor is encoded, written as bytes, read back and decoded; the certificate must state the
    error that is found.

    Args:
        tensors: The path of a model; arrays by name; or a list of arrays.
        codecs: Specs, such as ``"quant.int:bits=4"`` (`list_codecs`); by default all presets.
        seed: Seed of codecs that use random numbers.
        progress: As for `compress`, in tensors times codecs.

    Returns:
        A dict for each tensor and codec, as a line of ``netweight bench --json``: ``tensor``,
        ``codec``, ``status``, ``bits_per_weight``, ``relative_error``, ``max_abs_error``,
        ``encode_mb_per_s``, ``decode_mb_per_s`` and others. ``pandas.DataFrame`` takes the list.
    """
    specs = [codecs] if isinstance(codecs, str) else list(codecs)
    source: str | list[tuple[str, Any]]
    if isinstance(tensors, (str, PathLike)):
        source = f"model:{fspath(tensors)}"
    elif isinstance(tensors, Mapping):
        source = [(str(name), given(array)) for name, array in tensors.items()]
    else:
        source = [(str(number), given(array)) for number, array in enumerate(tensors)]
    with shown(progress) as show:
        found: list[dict[str, Any]] = json.loads(_netweight.bench(source, specs, seed, show))
    return found


def running_of(
    bases: Paths, threads: int | None, resident: str, memory: int | None
) -> dict[str, object]:
    if resident not in ("packed", "dense"):
        raise ValueError(f"resident={resident!r}; it is 'packed' or 'dense'")
    dense = resident == "dense"
    return {"bases": several(bases), "threads": threads, "dense": dense, "memory": memory}


def eval(
    model: StrPath,
    texts: str | Sequence[str],
    *,
    reference: StrPath | None = None,
    first_window: bool = False,
    context: int | None = None,
    stride: int | None = None,
    windows: int | None = None,
    bases: Paths = (),
    threads: int | None = None,
    resident: Literal["packed", "dense"] = "packed",
    memory: int | None = None,
) -> dict[str, Any]:
    """Measure how well a language model predicts texts, as ``netweight eval``.

    Args:
        model: A model directory, dense or packed, with ``config.json`` and ``tokenizer.json``.
        texts: A text, or several; not paths.
        reference: The model to compare with, usually the dense one.
        first_window: Of each text, only the first window counts: for many short texts.
        context: Tokens of a window; by default as many as the model was made for.
        stride: Tokens from one window to the next; by default those of a window.
        windows: Only the first windows.
        bases: The models that a packed one is relative to, if they are not where they were.
        threads: Number of threads.
        resident: How packed weights stay in memory: ``"packed"``, or ``"dense"``, decoded once.
        memory: Most bytes for the weights; matrices are then loaded when they are used.

    Returns:
        A dict with ``tokens``, ``nll`` (nats, their sum), ``perplexity``, ``bits_per_byte``,
        ``tokens_per_s``, ``resident_bytes``; with a reference also ``kl`` (nats per token),
        ``top1``, ``reference_perplexity`` and others.
    """
    task = task_of(texts, first_window, context, stride)
    return evaluated(
        model,
        {**task, "windows": windows, "skip": 0},
        reference,
        running_of(bases, threads, resident, memory),
    )


def task_of(
    texts: str | Sequence[str], first_window: bool, context: int | None, stride: int | None
) -> dict[str, object]:
    """Give what the extension module asks of an evaluation, without the choice of windows."""
    return {
        "texts": [texts] if isinstance(texts, str) else list(texts),
        "first_window": first_window,
        "context": context,
        "stride": stride,
    }


def evaluated(
    model: StrPath,
    task: Mapping[str, object],
    reference: StrPath | None,
    running: Mapping[str, object],
) -> dict[str, Any]:
    """Evaluate windows."""
    found: dict[str, Any] = json.loads(_netweight.eval(model, task, reference, running))
    return found


def generate(
    model: StrPath,
    prompt: str,
    *,
    tokens: int = 128,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    bases: Paths = (),
    threads: int | None = None,
    resident: Literal["packed", "dense"] = "packed",
    memory: int | None = None,
) -> str:
    """Continue a text with a language model, as ``netweight generate``.

    Without ``temperature``, every token is the most likely one. The same seed gives the same text
    on the same CPU with the same number of threads.

    Args:
        model: A model directory, dense or packed, with ``config.json`` and ``tokenizer.json``.
        prompt: The text to continue.
        tokens: Most tokens to write.
        temperature: Divides the logits; 0 for the most likely token.
        top_k: Choose among so many most likely tokens.
        top_p: Choose among the most likely tokens that together have this probability.
        min_p: Choose among tokens with at least this probability, relative to the most likely one.
        repetition_penalty: Divides the logits of tokens that the text has already.
        seed: Seed of the random choice.
        stop: End the text before any of these strings.
        bases: As for `eval`.
        threads: Number of threads.
        resident: As for `eval`.
        memory: As for `eval`.

    Returns:
        The new text, without the prompt.
    """
    writing = {
        "prompt": prompt,
        "tokens": tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": [stop] if isinstance(stop, str) else list(stop),
    }
    return _netweight.generate(model, writing, running_of(bases, threads, resident, memory))
