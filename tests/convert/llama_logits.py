"""llama.cpp's logits for GGUF files: runs as a script in a child process, because a file that it dislikes may abort the process.

The functions are llama.cpp's own, from the library inside the `xllamacpp` package, called by their C interface (llama.h). The two
parameter structures stay opaque: defaults in, defaults out, with room to spare.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np


def llama_logits(paths: list[Path], token_ids: list[int]) -> list[np.ndarray]:
    """float32 [vocab_size] for each file: the logits after all of `token_ids`. Raises RuntimeError if llama.cpp refuses a file."""
    return [np.array(found[0], dtype=np.float32) for found in _ask(paths, token_ids, n_new=1)]


def llama_greedy(path: Path, token_ids: list[int], *, n_new: int) -> list[int]:
    """The most probable continuation, token by token."""
    return [int(np.argmax(logits)) for logits in _ask([path], token_ids, n_new=n_new)[0]]


def _ask(paths: list[Path], token_ids: list[int], *, n_new: int) -> list[list[list[float]]]:
    question = json.dumps([[str(path) for path in paths], token_ids, n_new])
    child = subprocess.run(
        [sys.executable, __file__], input=question, capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if child.returncode:
        raise RuntimeError(f"llama.cpp failed:\n{child.stderr[-2000:]}")
    answer: list[list[list[float]]] = json.loads(child.stdout)
    return answer


class Opaque(ctypes.Structure):
    """A parameter structure: larger than any of llama.cpp's."""

    _fields_ = (("bytes", ctypes.c_uint64 * 128),)


class Batch(ctypes.Structure):
    """llama.h, `llama_batch`."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")),
    )


def main() -> None:
    """Answer one question on stdin: paths, token ids, number of steps."""
    paths, token_ids, n_new = json.load(sys.stdin)
    origin = find_spec("xllamacpp").origin  # type: ignore[union-attr]
    llama = ctypes.CDLL(str(Path(str(origin)).with_name("xllamacpp.abi3.so")))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("llama_model_default_params", Opaque, []),
        ("llama_context_default_params", Opaque, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Opaque]),
        ("llama_init_from_model", pointer, [pointer, Opaque]),
        ("llama_batch_get_one", Batch, [ctypes.POINTER(ctypes.c_int32), ctypes.c_int32]),
        ("llama_decode", ctypes.c_int32, [pointer, Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, ctypes.c_int32]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
    ):
        getattr(llama, name).restype, getattr(llama, name).argtypes = result, arguments
    llama.llama_backend_init()
    answers = []
    for path in paths:
        model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not model:
            raise SystemExit(f"llama.cpp refuses {path}")
        context = llama.llama_init_from_model(model, llama.llama_context_default_params())
        n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        ids, steps = list(token_ids), []
        for _ in range(n_new):
            tokens = (ctypes.c_int32 * len(ids))(*ids)
            if llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(ids))):
                raise SystemExit("llama_decode failed")
            logits = llama.llama_get_logits_ith(context, -1)[:n_vocab]
            steps.append(logits)
            ids = [max(range(n_vocab), key=logits.__getitem__)]
        answers.append(steps)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
