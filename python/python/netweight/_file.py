"""Reads the tensors of a model one by one."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy.typing as npt

from netweight import _netweight
from netweight._api import Spec
from netweight._arrays import Array, to_numpy, to_torch
from netweight._paths import Paths, StrPath, several

if TYPE_CHECKING:
    import torch


class File:
    """An open model, dense or packed, as `open` gives it. Threads may share it.

    Opening reads the headers only. A dense tensor is a view of the memory-mapped file: nothing is
    copied, the array is read-only, and its pages are read on first access. It stays valid when the
    model is closed. Do not change or shorten the file in the meantime. A tensor of a packed model
    is decoded, and every checksum and hash is compared; the array is writable.
    """

    def __init__(self, path: StrPath, *, bases: Paths = ()):
        """Open the model; see `open`."""
        self._path = path
        self._file = _netweight.File(path, several(bases))

    def __enter__(self) -> File:
        """Give the model itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the model."""
        self.close()

    def close(self) -> None:
        """Close the model. Arrays that were read stay valid."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the model is closed."""
        return self._file.closed

    @property
    def kind(self) -> str:
        """``"dense"``, ``"packed"``, or ``"computed"`` for a model of expressions."""
        return self._file.kind

    def keys(self) -> list[str]:
        """Return the names of the tensors in the order of the files."""
        return self._file.keys()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.keys())

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        """Whether a tensor has this name."""
        return name in self.keys()

    def __repr__(self) -> str:
        """Path and state."""
        state = "closed" if self.closed else self.kind
        return f"<netweight.File {str(self._path)!r}, {state}>"

    def spec(self, name: str) -> Spec:
        """Return dtype (as in safetensors files: ``"F32"``, ``"BF16"``) and shape of a tensor."""
        dtype, shape = self._file.spec(name)
        return Spec(dtype, tuple(shape))

    def __getitem__(self, name: str) -> Array:
        """Return a tensor as a numpy array: ``tensor(name)``."""
        return to_numpy(self._file.read(name), None)

    @overload
    def tensor(
        self, name: str, framework: Literal["np"] = ..., dtype: npt.DTypeLike | None = ...
    ) -> Array: ...
    @overload
    def tensor(
        self, name: str, framework: Literal["torch"], dtype: torch.dtype | None = ...
    ) -> torch.Tensor: ...
    def tensor(self, name: str, framework: str = "np", dtype: Any = None) -> Any:
        """Return a tensor in its shape.

        Args:
            name: The name; ``KeyError`` if no tensor has it.
            framework: ``"np"`` for a numpy array, ``"torch"`` for a CPU tensor, which is always
                writable: the bytes of a dense file are copied for it.
            dtype: The dtype of the result, of numpy or torch. By default that of the tensor. Numpy
                has no BF16, F8_E4M3 and F8_E5M2: they become float32, which holds their values
                exactly. ``"bits"`` gives the stored bits of any tensor without a copy, as unsigned
                integers (uint16 for BF16).
        """
        if framework == "np":
            return to_numpy(self._file.read(name), dtype)
        if framework == "torch":
            return to_torch(self._file.read(name), dtype)
        raise ValueError(f"framework={framework!r}; it is 'np' or 'torch'")

    def rows(self, name: str, first: int, last: int, dtype: npt.DTypeLike | None = None) -> Array:
        """Return rows ``first`` to ``last`` (not included) as a matrix ``[last - first, columns]``.

        A matrix ``[out, in]`` has ``out`` rows of ``in`` values. A stack ``[experts, out, in]`` has
        ``experts * out`` rows, a convolution ``[out, in, k, k]`` has ``out`` rows, and a vector has
        one. Of a packed tensor, only these rows are decoded if its codec can do that; float tensors
        (F32, F16, BF16) then come as float32. ``dtype`` converts the result.
        """
        if dtype == "bits":
            raise ValueError("rows have no bits; tensor(name, dtype='bits') gives those of all")
        if first < 0 or last < 0:
            raise ValueError(f"rows {first} to {last}: rows count from 0")
        return to_numpy(self._file.rows(name, first, last), dtype)


def open(path: StrPath, *, bases: Paths = ()) -> File:
    """Open a model, dense or packed, to read its tensors.

    Args:
        path: A ``.safetensors`` file, an index, a directory, or a packed model.
        bases: The models that a packed one is relative to, if they are not where they were.

    Returns:
        A `File`, which is a context manager::

            with netweight.open("packed") as f:
                weights = f["model.norm.weight"]
    """
    return File(path, bases=bases)
