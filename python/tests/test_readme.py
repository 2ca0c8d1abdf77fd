"""The example of the README runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_ten_lines(stories: Path, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "assets").symlink_to(stories.parent)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    error, shape, encoded = done.stdout.splitlines()
    assert 0 < float(error) < 0.05
    assert shape == "(2, 64)"
    assert encoded.endswith("(512, 64)")
