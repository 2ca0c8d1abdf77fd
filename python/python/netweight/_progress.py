"""A line of progress on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: Whether to show progress; or a function of a stage's name, the weights that are done, and all.
Progress: TypeAlias = bool | Callable[[str, int, int], object]

#: Seconds between two lines if standard error is no terminal.
_INTERVAL = 10.0


class _Line:
    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()
        self.stage = ""
        self.width = 0
        self.terminal = sys.stderr.isatty()

    def __call__(self, stage: str, done: int, every: int) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.begin = stage, now
        if not self.terminal and now - self.last < _INTERVAL:
            return
        self.last = now
        share = done / every if every else 1.0
        left = (now - self.begin) * (1 / share - 1) if share > 0.01 else None
        text = f"{stage}: {100 * share:3.0f} %" + (f", about {left:.0f} s left" if left else "")
        if self.terminal:
            sys.stderr.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.width:
            sys.stderr.write("\r" + " " * self.width + "\r")
            sys.stderr.flush()


@contextmanager
def shown(progress: Progress) -> Iterator[Callable[[str, int, int], object] | None]:
    """Give the function that shows progress, or None."""
    if callable(progress):
        yield progress
    elif not progress:
        yield None
    else:
        line = _Line()
        try:
            yield line
        finally:
            line.clear()
