"""What compression costs: bytes, perplexity and KL divergence of a language model by recipe.

Run `python compare_recipes.py MODEL TEXT [RECIPE …]` with a directory that the runtime can run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import netweight

RECIPES = ("lossless", "int8", "q4")


def main(model: str, text: str, *recipes: str) -> None:
    """Print a line for each recipe."""
    words = Path(text).read_text("utf-8")
    print(f"{'MB':>8} {'perplexity':>10} {'KL':>8} {'same token':>10}  recipe")
    with tempfile.TemporaryDirectory() as place:
        for recipe in recipes or RECIPES:
            packed = netweight.compress(model, Path(place) / Path(recipe).stem, recipe)
            found = netweight.eval(packed.parent, words, reference=model, windows=8)
            megabytes = packed.stat().st_size / 1e6
            print(
                f"{megabytes:8.3f} {found['perplexity']:10.3f} {found['kl']:8.4f} "
                f"{found['top1']:10.1%}  {recipe}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
