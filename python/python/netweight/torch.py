"""Models of ``transformers`` from packed directories, and back; needs ``netweight[torch]``."""

from __future__ import annotations

import tempfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import transformers

import netweight
from netweight._arrays import torch_dtype
from netweight._file import File
from netweight._paths import Paths, StrPath


class _Slice:
    """A tensor that is decoded when it is asked for, as ``safetensors``' slices are."""

    def __init__(self, file: File, name: str):
        self._file, self._name = file, name
        dtype, self.shape = file.spec(name)
        self.dtype: torch.dtype = torch_dtype(dtype)
        self._stored = dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._file.tensor(self._name, "torch")[index]

    def get_shape(self) -> list[int]:
        return list(self.shape)

    def get_dtype(self) -> str:
        return self._stored

    def is_floating_point(self) -> bool:
        return bool(self.dtype.is_floating_point)


def load_model(
    directory: StrPath,
    *,
    model_class: Any = None,
    dtype: torch.dtype | None = None,
    bases: Paths = (),
    **options: Any,
) -> Any:
    """Make a model of ``transformers`` from a directory, packed or dense.

    Each tensor is decoded when the model takes it, so that little more memory is needed than for
    the model.

    Args:
        directory: A directory with ``config.json`` and the weights, as `netweight.compress` writes.
        model_class: The class; by default the one that the configuration names, or
            ``AutoModelForCausalLM``.
        dtype: The dtype of the model; by default that of its first float tensor.
        bases: The models that a packed one is relative to, if they are not where they were.
        options: For ``from_pretrained`` of the class, such as ``device_map``.

    Returns:
        The model, in evaluation mode.

    Raises:
        RuntimeError: If the model lacks tensors, or has others than the configuration needs.
    """
    path = Path(directory)
    config = transformers.AutoConfig.from_pretrained(path)
    if model_class is None:
        named = (getattr(config, "architectures", None) or [""])[0]
        model_class = getattr(transformers, named, transformers.AutoModelForCausalLM)
    with netweight.open(path, bases=bases) as file:
        slices = {name: _Slice(file, name) for name in file}
        if dtype is None:
            floats = (s.dtype for s in slices.values() if s.is_floating_point())
            dtype = next(floats, torch.float32)
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=slices,
            dtype=dtype,
            output_loading_info=True,
            **options,
        )
    wrong = {key: sorted(map(str, found)) for key, found in report.items() if found}
    wrong.pop("unexpected_keys", None)
    if wrong:
        raise RuntimeError(f"`{path}` does not fit its config.json: {wrong}")
    if model.can_generate() and model.generation_config is not None:
        try:
            model.generation_config = transformers.GenerationConfig.from_pretrained(path)
        except OSError:
            # Without the file, the one of the configuration stays.
            pass
    return model.eval()


def save_packed(
    model: Any,
    directory: StrPath,
    recipe: str | PathLike[str] = "lossless",
    *,
    tokenizer: Any = None,
    **options: Any,
) -> Path:
    """Pack a model of ``transformers`` into a directory, with its configuration.

    ``save_pretrained`` writes the dense model into a temporary directory beside the target, which
    is packed and removed.

    Args:
        model: The model.
        directory: The target, a directory.
        recipe: As for `netweight.compress`.
        tokenizer: A tokenizer to store beside it.
        options: Further options of `netweight.compress`, such as ``codec``.

    Returns:
        The packed file.
    """
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as dense:
        model.save_pretrained(dense)
        if tokenizer is not None:
            tokenizer.save_pretrained(dense)
        return netweight.compress(dense, target, recipe, **options)
