"""llama.cpp as the oracle for real files: its own server, through the prebuilt xllamacpp package, on loopback.

with LlamaCpp(path) as llama:
    llama.continue_ids([750, 15801], 64)
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

N_PROBS = 2  # the two most likely tokens of each step: their distance is llama.cpp's own margin


class LlamaCpp:
    """A llama.cpp server over one model file, greedy, without a prompt cache."""

    def __init__(self, path: Path, *, n_ctx: int = 2048, threads: int = 1) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = n_ctx
        params.n_parallel = 1
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.warmup = False
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        self.address = str(self._server.listening_address)

    def continue_ids(self, token_ids: Sequence[int], n_tokens: int) -> list[int]:
        """Greedy continuation, stopped by nothing but the end of text: token ids."""
        return [step["id"] for step in self.steps(token_ids, n_tokens)]

    def steps(self, token_ids: Sequence[int], n_tokens: int) -> list[dict[str, Any]]:
        """Greedy continuation with each step's `id` and `top_logprobs`."""
        answer = self.post(
            "/completion",
            {
                "prompt": list(token_ids),
                "n_predict": n_tokens,
                "temperature": 0.0,
                "samplers": ["temperature"],
                "repeat_penalty": 1.0,
                "cache_prompt": False,
                "n_probs": N_PROBS,
                "return_tokens": True,
            },
        )
        steps: list[dict[str, Any]] = answer["completion_probabilities"]
        return steps

    def tokenize(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        """Token ids of a text."""
        answer = self.post("/tokenize", {"content": text, "parse_special": parse_special, "add_special": add_special})
        tokens: list[int] = answer["tokens"]
        return tokens

    def apply_template(self, messages: Sequence[dict[str, str]]) -> str:
        """The model's chat template, rendered by llama.cpp."""
        return str(self.post("/apply-template", {"messages": list(messages)})["prompt"])

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request."""
        request = urllib.request.Request(
            self.address + route, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=280) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def close(self) -> None:
        """Stop the server."""
        del self._server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
