"""llama.cpp's C API, for the scripts beside this one.

They need a llama.cpp that is built, and the Python packages llama-cpp-py-sync (for its declarations
of the C API), cffi, gguf and numpy.
"""

import ctypes
import glob
import os
import sys

NEEDED = "llama-cpp-py-sync cffi gguf numpy"
try:
    import gguf
    import numpy as np
    from llama_cpp_py_sync._cffi_bindings import ffi
except ImportError as error:
    sys.exit(f"error: {error}; `pip install {NEEDED}` into this Python")


def gpt2_writer(path, layers, width, heads, vocabulary, context):
    """A GGUF file of GPT-2's architecture, whose tokens have no meaning; tensors are to be added."""
    out = gguf.GGUFWriter(path, "gpt2")
    out.add_block_count(layers)
    out.add_context_length(context)
    out.add_embedding_length(width)
    out.add_feed_forward_length(4 * width)
    out.add_head_count(heads)
    out.add_layer_norm_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([f"t{i}" for i in range(vocabulary)])
    out.add_token_types([1] * vocabulary)
    out.add_token_merges(["t 0"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(0)
    return out


def write(out):
    """Writes the file with all its tensors."""
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def load_library(folder):
    """llama.cpp's functions."""

    def path_of(name):
        found = sorted(glob.glob(os.path.join(folder, f"lib{name}.so")) + glob.glob(os.path.join(folder, f"lib{name}.*.so")))
        if not found:
            sys.exit(f"error: `{folder}` has no lib{name}.so; `cargo xtask llamacpp --help` says where to get it")
        return found[0]

    # The backends are libraries beside it, of which it chooses one by the CPU.
    ctypes.CDLL(path_of("ggml"), mode=ctypes.RTLD_GLOBAL).ggml_backend_load_all_from_path(folder.encode())
    path = path_of("llama")
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    ctypes.CDLL(path).llama_log_set(quiet, None)
    api = ffi.dlopen(path)
    api.llama_backend_init()
    if api.llama_context_default_params().n_ubatch != 512:
        sys.exit(f"error: `{path}` does not have the structures that llama-cpp-py-sync declares: take another version of it")
    return api, quiet
