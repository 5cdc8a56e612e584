"""The options that the scripts share, and the contestants that follow from them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _machine
import _models
from _contest import Contestant

PEERS = _machine.REPOSITORY / ".venv-peers" / "bin" / "python"
HERE = Path(sys.executable)
EXACT_KL_LIMIT = 1e-3  # rounding of float16 keys and values, and nothing else

REFERENCE = Contestant("NumPy kernels", "numpy_reference", HERE, {"threads": 2})


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. `peers` is the interpreter that has the peers installed."""

    models: tuple[_models.Model, ...]
    peers: Path
    rounds: int
    threads: int
    quiet_s: float
    cases: tuple[str, ...]
    n_tokens: int


def parse(
    description: str, *, cases: Sequence[str] = (), n_tokens: int = 0, models: Sequence[str] = _models.DEFAULT
) -> Options:
    """Read the command line. cases: those that the script knows, all by default; n_tokens: its usual length."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", action="append", metavar="PATH|ALIAS", help="may be repeated; default: both aliases")
    parser.add_argument(
        "--peers", type=Path, default=PEERS, metavar="PYTHON", help="interpreter with the peers installed"
    )
    parser.add_argument("--rounds", type=int, default=10, help="of each contest (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument(
        "--quiet-s", type=float, default=10.0, help="a round waits so long for a quiet machine, at most"
    )
    if cases:
        parser.add_argument("--case", action="append", choices=cases, help="may be repeated; default: all")
    if n_tokens:
        parser.add_argument("--tokens", type=int, default=n_tokens, help="measured at once (default: %(default)s)")
    given = parser.parse_args()
    if given.rounds < 1 or given.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return Options(
        models=tuple(_models.resolve(reference) for reference in given.model or models),
        peers=given.peers,
        rounds=given.rounds,
        threads=given.threads,
        quiet_s=given.quiet_s,
        cases=tuple(getattr(given, "case", None) or cases),
        n_tokens=getattr(given, "tokens", 0),
    )


def in_words(threads: int) -> str:
    """As the cases have it: "1 thread", "2 threads"."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def ours(
    threads: int, *, name: str = "apr", environment: Mapping[str, str] | None = None, exact: bool = False
) -> Contestant:
    """Our engine. exact: float32 activations."""
    options: dict[str, Any] = {"threads": threads}
    if exact:
        options["activations"] = "float32"
    return Contestant(name, "apr_engine", HERE, options, environment or {}, kl_limit=EXACT_KL_LIMIT if exact else 0.02)


def ours_on_avx2(threads: int) -> list[Contestant]:
    """Our engine held down to AVX2, what most machines have; none where this machine is of another family."""
    try:
        from apr.kernels import _native
    except ImportError:
        return []
    if "avx2" not in _native.instruction_sets():
        return []
    return [ours(threads, name="apr avx2", environment={"APR_ISA": "avx2"})]


def llama_cpp(options: Options, threads: int, **more: Any) -> Contestant:
    """llama.cpp, built for this CPU."""
    return Contestant("llama.cpp", "peer_llama_cpp", options.peers, {"threads": threads, **more})


def ik_llama_cpp(options: Options, threads: int, **more: Any) -> Contestant:
    """The fork ik_llama.cpp, as its wheel is built."""
    return Contestant("ik_llama.cpp", "peer_ik_llama_cpp", options.peers, {"threads": threads, **more})


def xllamacpp(options: Options, threads: int) -> Contestant:
    """llama.cpp as a prebuilt wheel."""
    return Contestant("llama.cpp wheel", "peer_xllamacpp", options.peers, {"threads": threads})


def torch(threads: int) -> Contestant:
    """PyTorch in float32, from our own interpreter's packages."""
    return Contestant("torch float32", "peer_torch", HERE, {"threads": threads})
