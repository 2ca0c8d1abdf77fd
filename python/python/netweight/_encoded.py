"""Single encoded tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netweight import _netweight
from netweight._arrays import NUMPY, Array, given, to_numpy


class Encoded:
    """A tensor that `encode` made. It can be pickled, copied and shared between threads."""

    __slots__ = ("_encoded",)

    def __init__(self, encoded: _netweight.Encoded):
        """Wrap the result of Rust; `encode` and `from_bytes` make one."""
        self._encoded = encoded

    def decode(
        self,
        dtype: npt.DTypeLike | None = None,
        *,
        out: Array | None = None,
        max_bytes: int | None = None,
    ) -> Array:
        """Return the decoded tensor in its shape, rounded to its stored dtype.

        Args:
            dtype: The dtype of the result. By default BF16 and F8 tensors come as float32, and
                others in their own; ``"bits"`` gives the stored bits.
            out: A contiguous array of the tensor's shape and dtype, which is filled and returned:
                its memory is not new, which saves time for large tensors.
            max_bytes: A tensor of `from_bytes` that is very much larger than its bytes is refused,
                since a damaged or hostile file may claim any size; this allows so many bytes.

        Raises:
            ValueError: If ``out`` does not fit, or the tensor is too large.
        """
        if out is None:
            # numpy's memory has large pages, which take less time to get.
            data = np.zeros(self._encoded.output_bytes(max_bytes), np.uint8)
            self._encoded.decode(data)
            return to_numpy((self.dtype, list(self.shape), data), dtype)
        own = NUMPY.get(self.dtype)
        fits = out.dtype == own and out.shape == self.shape and out.flags.c_contiguous
        if dtype is not None or not fits or not out.flags.writeable:
            wanted = f"a contiguous, writable array of {own or 'a dtype of numpy'}"
            raise ValueError(f"out has to be {wanted} and of shape {self.shape}, without dtype")
        self._encoded.decode(out.reshape(-1).view(np.uint8))
        return out

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
