"""The extension module; the package's other modules are its interface."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, final

from netweight._arrays import Given, Raw

__version__: str

_Path = str | PathLike[str]
_Progress = Callable[[str, int, int], object] | None

class NetweightError(Exception):
    """A file that is damaged or does not fit, or work that failed."""

@final
class Buffer:
    """Bytes that Rust holds, read-only."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

@final
class File:
    """An open model."""

    def __new__(cls, path: _Path, bases: Sequence[_Path]) -> File: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def kind(self) -> str: ...
    def keys(self) -> list[str]: ...
    def spec(self, name: str) -> tuple[str, list[int]]: ...
    def read(self, name: str) -> Raw: ...
    def rows(self, name: str, first: int, last: int) -> Raw: ...

@final
class Encoded:
    """An encoded tensor."""

    @staticmethod
    def from_bytes(data: bytes | bytearray) -> Encoded: ...
    def to_bytes(self) -> bytes: ...
    def decode(self) -> Raw: ...
    @property
    def spec(self) -> tuple[str, list[int]]: ...
    @property
    def codec(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def certificate(self) -> tuple[bool, float, float, float]: ...

def encode(tensor: Given, codec: str, seed: int) -> Encoded: ...
def register_codec(name: str, codec: object) -> str: ...
def list_codecs() -> str: ...
def bench(
    tensors: str | Sequence[tuple[str, Given]],
    codecs: Sequence[str],
    seed: int,
    progress: _Progress,
) -> str: ...
def info(path: _Path, bases: Sequence[_Path]) -> str: ...
def compress(
    source: _Path,
    target: _Path,
    packing: Mapping[str, object],
    threads: int | None,
    progress: _Progress,
) -> str: ...
def decompress(
    source: _Path,
    target: _Path,
    bases: Sequence[_Path],
    options: tuple[int | None, bool],
    threads: int | None,
    progress: _Progress,
) -> None: ...
def verify(
    source: _Path,
    against: _Path | None,
    bases: Sequence[_Path],
    threads: int | None,
    progress: _Progress,
) -> list[str]: ...
def diff(
    first: _Path,
    second: _Path,
    bases: Sequence[_Path],
    threads: int | None,
    progress: _Progress,
) -> str: ...
def eval(
    path: _Path,
    task: Mapping[str, object],
    reference: _Path | None,
    running: Mapping[str, object],
) -> str: ...
def generate(path: _Path, writing: Mapping[str, object], running: Mapping[str, object]) -> str: ...
