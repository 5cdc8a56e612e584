"""llama.cpp as a prebuilt wheel ships it: xllamacpp's server, asked over loopback; times are the server's own."""

import importlib.metadata
import json
import time
import urllib.request
from typing import Any

import _protocol
import numpy as np
import xllamacpp


class Xllamacpp:
    """A server for one sequence, greedy, without a prompt cache."""

    def load(self, path: str, threads: int) -> dict[str, Any]:
        """Start the server."""
        started = time.perf_counter()
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx, params.n_parallel = 1024, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup = False
        params.verbosity = -1
        self.server = xllamacpp.Server(params)
        version = importlib.metadata.version("xllamacpp")
        return {"seconds": time.perf_counter() - started, "versions": {"xllamacpp": version}}

    def prefill(self, token_ids: list[int]) -> dict[str, Any]:
        """A new sequence: the prompt and its first token."""
        self.prompt = token_ids
        answer = self._complete(token_ids, 1)
        seconds = answer["timings"]["prompt_ms"] / 1e3
        return {"seconds": seconds, "n_tokens": answer["timings"]["prompt_n"], "token_ids": answer["tokens"]}

    def decode(self, n_tokens: int, limit_s: float) -> dict[str, Any]:
        """Greedy steps after the prompt, which the server computes again, untimed."""
        del limit_s
        answer = self._complete(self.prompt, n_tokens + 1)
        # the server's clock of this phase starts at the first token, which is the prompt's
        seconds, n_decoded = answer["timings"]["predicted_ms"] / 1e3, answer["timings"]["predicted_n"] - 1
        return {"seconds": seconds, "n_tokens": n_decoded, "token_ids": answer["tokens"][1:]}

    def logits(self, token_ids: list[int], out: str) -> dict[str, Any]:
        """Save log-probabilities, float32 [rows, vocab_size]: after the first half, and after each later token.

        The server gives them with the first token of an answer only, so each row is a prompt of its own.
        """
        rows = []
        for count in range(len(token_ids) // 2, len(token_ids) + 1):
            answer = self._complete(token_ids[:count], 1, n_probs=1 << 20)
            (first,) = answer["completion_probabilities"]
            row = np.empty(len(first["top_logprobs"]), dtype=np.float32)
            row[[entry["id"] for entry in first["top_logprobs"]]] = [e["logprob"] for e in first["top_logprobs"]]
            rows.append(row)
        np.save(out, np.stack(rows))
        return {}

    def memory(self) -> dict[str, Any]:
        """Memory of the process."""
        return dict(_protocol.memory())

    def _complete(self, token_ids: list[int], n_tokens: int, n_probs: int = 0) -> dict[str, Any]:
        body = {
            "n_probs": n_probs,
            "prompt": token_ids,
            "n_predict": n_tokens,
            "temperature": 0.0,
            "samplers": ["temperature"],
            "repeat_penalty": 1.0,
            "cache_prompt": False,
            "ignore_eos": True,
            "return_tokens": True,
        }
        request = urllib.request.Request(
            f"{self.server.listening_address}/completion",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


if __name__ == "__main__":
    _protocol.serve(Xllamacpp())
