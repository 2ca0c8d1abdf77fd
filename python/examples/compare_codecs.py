"""Which codec for which layer: size and error of several codecs on each matrix of a model.

Run `python compare_codecs.py MODEL [CODEC …]` with a directory or a file of safetensors.
"""

from __future__ import annotations

import sys

import netweight

CODECS = ("quant.int:bits=8", "quant.int:bits=4:group=32", "trellis:bits=4")


def main(model: str, *codecs: str) -> None:
    """Print a line for each matrix and codec."""
    print(f"{'bits':>6} {'error':>8}  codec, tensor")
    for row in netweight.bench(model, codecs or CODECS):
        if row["status"] == "ok":
            found = f"{row['bits_per_weight']:6.3f} {row['relative_error']:8.5f}"
        else:
            found = row["status"]
        print(f"{found}  {row['codec']}, {row['tensor']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
