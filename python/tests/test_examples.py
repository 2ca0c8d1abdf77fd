"""The programs in `examples/` run on the small model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *args: object) -> list[str]:
    """Run an example; return the lines that it prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_codecs_on_layers(stories: Path) -> None:
    _, *rows = run("compare_codecs.py", stories, "quant.int:bits=8", "quant.int:bits=4")
    layer = "model.layers.0.mlp.up_proj.weight"
    fine, coarse = (row.split() for row in rows if row.endswith(layer))
    assert float(fine[0]) > float(coarse[0])
    assert 0 < float(fine[1]) < float(coarse[1]) < 0.2


def test_recipes_of_a_model(stories: Path) -> None:
    text = stories.parent / "tinystories/eval.jsonl"
    _, *rows = run("compare_recipes.py", stories, text)
    assert [row.split()[-1] for row in rows] == ["lossless", "int8", "q4"]
    sizes, divergences = ([float(row.split()[at]) for row in rows] for at in (0, 2))
    assert sizes == sorted(sizes, reverse=True)
    assert divergences[0] == 0 < divergences[2]


def test_text_of_a_packed_model(stories: Path) -> None:
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason="needs pip install './python[torch]'")
    [text] = run("generate_with_transformers.py", stories, "Once upon a time")
    assert text.startswith("Once upon a time, there was")
