"""Requantise a GGUF file purely to Q4_K: python make_q4_k.py SOURCE DESTINATION, by an interpreter with llama-cpp-python.

Published "Q4_K_M" files of small models are mostly other codecs, because Q4_K needs rows in multiples of 256. The
source may be quantised already: for measuring speed its loss does not matter.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Quantise, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()

    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = given.threads
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S
    params.pure = params.allow_requantize = params.quantize_output_tensor = True
    part = given.destination.with_suffix(".part")
    status = llama_cpp.llama_model_quantize(str(given.source).encode(), str(part).encode(), params)
    if status != 0:
        raise SystemExit(f"{given.source}: llama.cpp refuses to quantise it (status {status})")
    part.replace(given.destination)


if __name__ == "__main__":
    main()
