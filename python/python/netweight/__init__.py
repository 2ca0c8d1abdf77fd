"""Compresses the weights of neural networks with pluggable codecs.

Models are paths: a ``.safetensors`` file, the index of a sharded model, a directory in Hugging Face
layout, or a packed model that `compress` wrote. Functions that work long take ``threads`` (one for
each core by default) and run without the interpreter's lock; Ctrl-C ends them. Errors are
`NetweightError`, or ``ValueError``, ``TypeError``, ``KeyError`` and ``OSError`` where these are
usual; the message names the file, the tensor and what to do.
"""

from netweight._api import (
    Spec,
    bench,
    compress,
    decompress,
    diff,
    eval,
    generate,
    info,
    list_codecs,
    verify,
)
from netweight._codec import Codec, register_codec
from netweight._encoded import Encoded, encode
from netweight._file import File, open
from netweight._netweight import NetweightError, __version__

__all__ = [
    "Codec",
    "Encoded",
    "File",
    "NetweightError",
    "Spec",
    "__version__",
    "bench",
    "compress",
    "decompress",
    "diff",
    "encode",
    "eval",
    "generate",
    "info",
    "list_codecs",
    "open",
    "register_codec",
    "verify",
]
