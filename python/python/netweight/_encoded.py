"""Single encoded tensors."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from netweight import _netweight
from netweight._arrays import Array, given, to_numpy


class Encoded:
    """A tensor that `encode` made. It can be pickled, copied and shared between threads."""

    __slots__ = ("_encoded",)

    def __init__(self, encoded: _netweight.Encoded):
        """Wrap the result of Rust; `encode` and `from_bytes` make one."""
        self._encoded = encoded

    def decode(self, dtype: npt.DTypeLike | None = None, *, max_bytes: int | None = None) -> Array:
        """Return the decoded tensor in its shape, rounded to its stored dtype.

        BF16 and F8 tensors come as float32; ``dtype="bits"`` gives the stored bits, and any other
        dtype converts the result. A tensor of `from_bytes` that is very much larger than its bytes
        is refused, since a damaged or hostile file may claim any size; ``max_bytes`` allows it.
        """
        return to_numpy(self._encoded.decode(max_bytes), dtype)

    @property
    def codec(self) -> str:
        """The codec as spec text with all its keys."""
        return self._encoded.codec

    @property
    def dtype(self) -> str:
        """The stored dtype as in safetensors files, such as ``"F32"``."""
        return self._encoded.spec[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self._encoded.spec[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the payload, without the header."""
        return self._encoded.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits of the payload for each weight; NaN for an empty tensor."""
        count = 1
        for extent in self.shape:
            count *= extent
        return 8 * self.nbytes / count if count else float("nan")

    @property
    def bound(self) -> float:
        """The largest error of a weight, ``max |w − ŵ|``, as the certificate states it."""
        return self._encoded.certificate[1]

    @property
    def relative_error(self) -> float:
        """``‖w − ŵ‖ / ‖w‖``, as the certificate states it."""
        _, _, squared, energy = self._encoded.certificate
        return float((squared / energy) ** 0.5) if squared else 0.0

    @property
    def exact(self) -> bool:
        """Whether every bit is restored."""
        return self._encoded.certificate[0]

    def to_bytes(self) -> bytes:
        """Serialise as a safetensors file, which `from_bytes` and ``netweight info`` read."""
        return self._encoded.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Encoded:
        """Read what `to_bytes` wrote; nothing of ``bytes`` is copied.

        Raises:
            NetweightError: For any other bytes.
        """
        return cls(
            _netweight.Encoded.from_bytes(bytes(data) if isinstance(data, memoryview) else data)
        )

    def __copy__(self) -> Encoded:
        """Give the same object, which does not change."""
        return self

    def __deepcopy__(self, memo: object) -> Encoded:
        """Give the same object, which does not change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as bytes."""
        return Encoded.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        """Codec, spec and size."""
        size = f"{self.bits_per_weight:.3f} bits/weight"
        return f"<netweight.Encoded {self.dtype} {list(self.shape)}, {self.codec}, {size}>"


def encode(array: object, codec: str, *, seed: int = 0, dtype: str | None = None) -> Encoded:
    """Encode an array of any shape with a codec.

    Args:
        array: A numpy array, a CPU tensor of torch, or what numpy reads as an array. Lossy codecs
            take float32, float16 and bfloat16; exact ones, such as ``"lossless"``, take every
            dtype. A contiguous array is read where it is.
        codec: A codec with its settings, such as ``"trellis:bits=3"`` (`list_codecs`).
        seed: Seed of codecs that use random numbers.
        dtype: The dtype of safetensors whose bits the array holds, such as ``"BF16"`` for an array
            of uint16; by default that of the array.

    Raises:
        ValueError: For an unknown codec, and for a dtype, shape or values that it refuses.
        TypeError: For an array of objects or texts.
    """
    return Encoded(_netweight.encode(given(array, dtype), codec, seed))
