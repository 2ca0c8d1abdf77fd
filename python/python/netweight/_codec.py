"""Codecs written in Python, to measure an idea beside the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from netweight import _netweight
from netweight._arrays import NUMPY, Array, Given, given


class Codec(Protocol):
    """What a codec written in Python has.

    Its three methods must be functions of their arguments alone. Each call holds the interpreter's
    lock: such a codec is slow, and measured like all others.
    """

    def cost(self, shape: tuple[int, ...]) -> int | tuple[int, int]:
        """Return the bytes of the payload of a tensor of this shape: the number, or least and most.

        An exception refuses the shape.
        """
        ...

    def encode(self, weights: npt.NDArray[np.float32]) -> Mapping[str, Array]:
        """Encode float32 weights, all finite, into named arrays of any numpy dtype but objects."""
        ...

    def decode(self, sections: Mapping[str, Array], shape: tuple[int, ...]) -> npt.ArrayLike:
        """Decode these arrays into weights of this shape."""
        ...


class _Adapter:
    """Converts between arrays and what Rust passes."""

    def __init__(self, codec: Codec):
        self.codec = codec

    def cost(self, shape: list[int]) -> tuple[int, int]:
        cost = self.codec.cost(tuple(shape))
        if isinstance(cost, tuple):
            least, most = cost
            return int(least), int(most)
        return int(cost), int(cost)

    def encode(
        self, weights: npt.NDArray[np.float32], shape: list[int]
    ) -> list[tuple[str, str, list[int], npt.NDArray[np.uint8]]]:
        sections = self.codec.encode(weights.reshape(shape))
        parts = [(name, *given(array)) for name, array in sections.items()]
        for name, dtype, *_ in parts:
            if dtype not in NUMPY:
                raise TypeError(f"section `{name}` is {dtype}, which numpy lacks; give its bits")
        return parts

    def decode(self, parts: list[tuple[str, str, list[int], Any]], shape: list[int]) -> Array:
        sections = {name: _section((dtype, own, data)) for name, dtype, own, data in parts}
        decoded = np.asarray(self.codec.decode(sections, tuple(shape)), dtype=np.float32)
        if list(decoded.shape) != shape:
            raise ValueError(f"decode returned {list(decoded.shape)}, the tensor is {shape}")
        return np.ascontiguousarray(decoded).reshape(-1)


def _section(raw: Given) -> Array:
    dtype, shape, data = raw
    return data.view(NUMPY[dtype]).reshape(shape)


def register_codec(name: str, codec: Codec | type[Any]) -> str:
    """Register a codec, so that `bench`, `encode` and `compress` take its spec.

    A tensor that it encodes is read only by a program that has registered a codec of this name.

    Args:
        name: Lower-case letters, digits, ``-`` and ``_``. An older codec of this name is replaced.
        codec: An object with the methods of `Codec`, or a class that is called without arguments.

    Returns:
        The spec, ``"python:name=NAME"``.
    """
    made = codec() if isinstance(codec, type) else codec
    for method in ("cost", "encode", "decode"):
        if not callable(getattr(made, method, None)):
            raise TypeError(f"{type(made).__name__} has no method `{method}`")
    return _netweight.register_codec(name, _Adapter(made))
