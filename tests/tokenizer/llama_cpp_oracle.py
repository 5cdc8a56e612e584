"""llama.cpp's tokenizer, over the loopback interface: one server a model file."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class LlamaCpp:
    """Asks a running server for token ids."""

    def __init__(self, address: str) -> None:
        self._address = address

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Control tokens in the text are text."""
        return [self._post(text, parse_special=False) for text in texts]

    def encode_control(self, texts: Sequence[str]) -> list[list[int]]:
        """Control tokens in the text count."""
        return [self._post(text, parse_special=True) for text in texts]

    def _post(self, text: str, *, parse_special: bool) -> list[int]:
        body = json.dumps({"content": text, "add_special": False, "parse_special": parse_special}).encode()
        request = urllib.request.Request(
            f"{self._address}/tokenize", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            tokens: Any = json.loads(answer.read())["tokens"]
        return list(tokens)


@contextmanager
def running(path: Path) -> Iterator[LlamaCpp]:
    """A server for the model file at `path`, stopped at the end."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 128
    params.n_parallel = 1
    params.warmup = False
    params.n_gpu_layers = 0
    params.port = 0
    server = xllamacpp.Server(params)
    try:
        yield LlamaCpp(server.listening_address)
    finally:
        del server
