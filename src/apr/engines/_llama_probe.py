"""A try in another process: llama.cpp answers some damaged files by ending the process it is in.

The child loads the file and computes one token, or, for a voice, reads the vocabulary. If it comes back, the file is loaded
here; if it dies, what it said last is the reason. A process is the only wall that an `abort` cannot pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

from apr.engines._llama_library import library
from apr.errors import EngineError

Part = Literal["weights", "vocabulary"]

_REFUSED = 3
# not `-m` nor a script: its folder would come first on the path, and holds a `numpy.py`
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from apr.engines._llama_probe import main; main()"


def probe(path: Path, part: Part) -> None:
    """Raise EngineError if llama.cpp refuses the file, or dies of it."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(path), part],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # it would start a debugger on itself, which takes seconds
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if child.returncode == 0:
        return
    if child.returncode == _REFUSED:
        raise EngineError(child.stdout.strip())
    said = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    reason = next((line for line in said if "ASSERT" in line or "error" in line.lower()), said[-1] if said else "")
    ended = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit status {child.returncode}"
    raise EngineError(f"{path}: llama.cpp ends the process ({ended}) over this file: {reason or 'it gives no reason'}")


def main() -> None:
    """The child: path and part from the command line; exits with `_REFUSED` and llama.cpp's reason on stdout."""
    path, part = Path(sys.argv[2]), sys.argv[3]
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an abort is an answer here, not worth a core file
    llama = library()
    try:
        model = llama.load_model(path, vocab_only=part == "vocabulary")
        if part == "weights":
            context = llama.open_context(model, {"n_ctx": 256})
            token = (ctypes.c_int32 * 1)(0)
            status = llama.llama_decode(context, llama.llama_batch_get_one(ctypes.addressof(token), 1))
            if status:
                raise EngineError(f"{path}: llama_decode answered {status}: {llama.why(otherwise='no reason given')}")
    except EngineError as exc:
        print(exc)  # noqa: T201 - to the parent
        sys.stdout.flush()
        raise SystemExit(_REFUSED) from exc
