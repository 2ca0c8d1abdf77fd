"""A packed model in `transformers`: pack a directory, load it, and let it write.

Run `python generate_with_transformers.py MODEL PROMPT [RECIPE]`; needs `netweight[torch]`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoTokenizer

import netweight
from netweight.torch import load_model


def main(model: str, prompt: str, recipe: str = "int8") -> None:
    """Print the text."""
    with tempfile.TemporaryDirectory() as place:
        netweight.compress(model, Path(place) / "packed", recipe)
        packed = load_model(Path(place) / "packed")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        written = packed.generate(**tokens, max_new_tokens=20, do_sample=False)
    print(tokenizer.decode(written[0], skip_special_tokens=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
