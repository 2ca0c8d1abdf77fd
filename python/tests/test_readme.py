"""The examples of the documentation run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[1]


def run(page: Path, stories: Path, directory: Path) -> list[str]:
    """Run the first example of a page; return the lines that it prints."""
    program = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)[0]
    (directory / "assets").symlink_to(stories.parent)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_ten_lines(stories: Path, tmp_path: Path) -> None:
    error, shape, encoded = run(PYTHON / "README.md", stories, tmp_path)
    assert 0 < float(error) < 0.05
    assert shape == "(2, 64)"
    assert encoded.endswith("(512, 64)")


def test_the_codec_of_the_docs(stories: Path, tmp_path: Path) -> None:
    lines = run(PYTHON.parent / "docs/python.md", stories, tmp_path)
    assert [line.split(":")[0] for line in lines] == ["python", "quant.int", "trellis"]
