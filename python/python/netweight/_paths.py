"""Paths as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypeAlias

StrPath: TypeAlias = str | PathLike[str]
#: One path, or several.
Paths: TypeAlias = StrPath | Sequence[StrPath]


def several(paths: Paths) -> list[StrPath]:
    """Return a list; a single path is one of one."""
    return [paths] if isinstance(paths, (str, PathLike)) else list(paths)
