"""Tensors as arrays. A tensor crosses the border to Rust as dtype, shape and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Array: TypeAlias = npt.NDArray[Any]
#: Dtype, shape, and bytes or values, as Rust gives them.
Raw: TypeAlias = tuple[str, list[int], Any]
#: Dtype, shape, and bytes, as Rust takes them.
Given: TypeAlias = tuple[str, list[int], npt.NDArray[np.uint8]]

#: The dtypes of safetensors that numpy has.
NUMPY = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
NAMES = {dtype: name for name, dtype in NUMPY.items()}

#: Bytes of an element of the dtypes that numpy lacks, and the name that torch and ml_dtypes use.
OTHERS = {
    "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "F8_E8M0": (1, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (1, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (1, "float8_e5m2fnuz"),
}


def _e4m3() -> npt.NDArray[np.float32]:
    """The values of the 256 codes of F8_E4M3: no infinities, NaN at 0x7f and 0xff."""
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = np.ldexp(1.0 + mantissa / 8.0, exponent - 7)
    values = sign * np.where(exponent == 0, np.ldexp(mantissa / 8.0, -6), normal)
    values[(codes & 0x7F) == 0x7F] = np.nan
    return values.astype(np.float32)


def _bits(dtype: str, data: Array, shape: list[int]) -> Array:
    width = NUMPY[dtype].itemsize if dtype in NUMPY else OTHERS.get(dtype, (0,))[0]
    if not width:
        raise ValueError(
            f"{dtype}: its elements are not whole bytes, so numpy has no array of them"
        )
    return data.view(np.dtype(f"<u{width}")).reshape(shape)


def to_numpy(raw: Raw, dtype: npt.DTypeLike | None) -> Array:
    """Make an array of a tensor.

    ``dtype`` is that of the array: that of the tensor by default, and float32 for BF16, F8_E4M3 and
    F8_E5M2, whose values are exact in it. ``"bits"`` gives the stored bits as unsigned integers.
    """
    name, shape, data = raw
    data = np.asarray(data)
    # A tensor in a file may begin at any byte.
    if data.dtype == np.uint8 and data.ctypes.data % 8:
        data = data.copy()
    if isinstance(dtype, str) and dtype == "bits":
        return _bits(name, data, shape)
    if data.dtype != np.uint8:
        array = data.reshape(shape)
    elif name in NUMPY:
        array = data.view(NUMPY[name]).reshape(shape)
    elif name == "BF16":
        array = (_bits(name, data, shape).astype(np.uint32) << 16).view(np.float32)
    elif name == "F8_E4M3":
        array = _e4m3()[data].reshape(shape)
    elif name == "F8_E5M2":
        array = (data.astype(np.uint16) << 8).view(np.float16).astype(np.float32).reshape(shape)
    else:
        raise ValueError(f"numpy has no {name}; dtype='bits' gives the stored bits")
    return array if dtype is None else array.astype(dtype, copy=False)


def to_torch(raw: Raw, dtype: torch.dtype | None) -> torch.Tensor:
    """Make a tensor of torch. It is writable; the bytes of a dense file are copied for it."""
    import torch

    name, shape, data = raw
    data = np.asarray(data)
    if not data.flags.writeable or data.ctypes.data % 8:
        data = data.copy()
    stored = torch_dtype(name)
    tensor = torch.from_numpy(data)
    tensor = (tensor if data.dtype != np.uint8 else tensor.view(stored)).reshape(shape)
    return tensor if dtype is None else tensor.to(dtype)


def torch_dtype(name: str) -> torch.dtype:
    """Find torch's dtype of a name in safetensors files."""
    import torch

    own = str(NUMPY[name].name) if name in NUMPY else OTHERS.get(name, (0, ""))[1]
    stored: torch.dtype | None = getattr(torch, own, None)
    if stored is None:
        raise ValueError(f"torch has no {name}")
    return stored


def given(array: object, dtype: str | None = None) -> Given:
    """Take anything that numpy reads as an array, a tensor of torch, or one that has DLPack.

    ``dtype`` names the dtype of safetensors whose bits the array holds, such as ``"BF16"`` for one
    of uint16.
    """
    found: str | None = None
    if type(array).__module__.partition(".")[0] == "torch":
        array, found = _of_torch(array)
    taken = np.asarray(array)
    if taken.dtype.hasobject and hasattr(array, "__dlpack__"):
        try:
            taken = np.from_dlpack(array)
        except (BufferError, RuntimeError) as error:
            raise TypeError(f"{type(array).__name__}: {error}") from error
    if taken.dtype.hasobject or (taken.dtype.kind in "SUVMm" and not _name_of(taken.dtype)):
        raise TypeError(f"an array of {taken.dtype} holds no weights; convert it to float32 first")
    shape = list(taken.shape)
    if found is None:
        found = _name_of(taken.dtype.newbyteorder("<"))
        if found is None:
            raise TypeError(f"{taken.dtype}: safetensors has no such dtype; convert it first")
    if dtype is not None:
        known = NUMPY[dtype].itemsize if dtype in NUMPY else OTHERS.get(dtype, (0,))[0]
        if known != taken.dtype.itemsize:
            raise ValueError(f"an array of {taken.dtype} does not hold the bits of {dtype}")
        found = dtype
    if not taken.dtype.isnative:
        taken = taken.astype(taken.dtype.newbyteorder("<"))
    return found, shape, np.ascontiguousarray(taken).reshape(-1).view(np.uint8)


def _name_of(dtype: np.dtype[Any]) -> str | None:
    known = NAMES.get(dtype)
    return known or next((name for name, (_, own) in OTHERS.items() if own == dtype.name), None)


def _of_torch(tensor: Any) -> tuple[Array, str | None]:
    import torch

    tensor = tensor.detach().cpu().contiguous()
    own = str(tensor.dtype).removeprefix("torch.")
    for name, (width, other) in OTHERS.items():
        if own == other:
            return tensor.view(torch.int16 if width == 2 else torch.uint8).numpy(), name
    return tensor.numpy(), None
