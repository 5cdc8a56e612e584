"""Our engine as a contestant: the session's forward pass and the highest logit, the same work as the peers' loops."""

import time
from typing import Any

import _protocol
import numpy as np

import apr
from apr.engines import _language_model, native  # noqa: F401  what `load` would import counts as import, not as loading
from apr.models._decoder import Span


class Apr:
    """One loaded model and the sequence that `prefill` began."""

    def load(self, path: str, threads: int, activations: str = "int8") -> dict[str, Any]:
        """Load; activations: "int8", or "float32" for the exact mode."""
        started = time.perf_counter()
        options = {} if activations == "int8" else {"activations": activations}
        self.model = apr.load(path, threads=threads, **options)
        self.session = self.model.session
        return {
            "seconds": time.perf_counter() - started,
            "versions": {"apr": apr.__version__, "numpy": np.__version__},
            "instruction_set": self.session.instruction_set,
            "kernel_set": self.session.kernel_set,
        }

    def prefill(self, token_ids: list[int]) -> dict[str, Any]:
        """A new sequence: one pass over the prompt."""
        self.cache = self.session.new_cache()
        ids = np.asarray(token_ids, dtype=np.int64)
        started = time.perf_counter()
        self.next_id = int(self.session.forward([Span(ids, self.cache)])[-1].argmax())
        return {"seconds": time.perf_counter() - started, "n_tokens": len(token_ids), "token_ids": [self.next_id]}

    def decode(self, n_tokens: int, limit_s: float) -> dict[str, Any]:
        """Greedy steps after the prompt, as many as `limit_s` allows."""
        token_ids: list[int] = []
        started = time.perf_counter()
        while len(token_ids) < n_tokens and time.perf_counter() - started < limit_s:
            span = Span(np.array([self.next_id], dtype=np.int64), self.cache)
            self.next_id = int(self.session.forward([span])[-1].argmax())
            token_ids.append(self.next_id)
        return {"seconds": time.perf_counter() - started, "n_tokens": len(token_ids), "token_ids": token_ids}

    def batch(self, prompts: list[list[int]], n_tokens: int) -> dict[str, Any]:
        """Greedy steps of several sequences at once; the prompts' pass is not timed."""
        caches = [self.session.new_cache() for _ in prompts]
        news = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
        steps = []
        started = 0.0
        for step in range(n_tokens + 1):
            logits = self.session.forward([Span(new, cache) for new, cache in zip(news, caches, strict=True)])
            chosen = logits.argmax(axis=1)
            steps.append(chosen.tolist())
            news = [chosen[i : i + 1] for i in range(len(prompts))]
            if step == 0:
                started = time.perf_counter()
        seconds = time.perf_counter() - started
        sequences = [list(ids) for ids in zip(*steps, strict=True)]
        return {"seconds": seconds, "n_tokens": n_tokens * len(prompts), "sequences": sequences}

    def logits(self, token_ids: list[int], out: str) -> dict[str, Any]:
        """Save logits, float32 [rows, vocab_size]: after the first half, one pass, and after each later token, one by one."""
        ids, cache = np.asarray(token_ids, dtype=np.int64), self.session.new_cache()
        passes = np.split(ids, np.arange(len(ids) // 2, len(ids)))
        np.save(out, np.stack([self.session.forward([Span(new, cache)])[-1] for new in passes]))
        return {}

    def generate(self, prompt: str, n_tokens: int) -> dict[str, Any]:
        """The whole way of a user: tokenizer, sampler, stop rules, text and record."""
        record = self.model.generate(prompt, max_tokens=n_tokens, regime="raw", at_eos="ignore")
        n_decoded = len(record.output_token_ids) - 1
        return {"seconds": record.timings.decode_s, "n_tokens": n_decoded, "token_ids": list(record.output_token_ids)}

    def memory(self) -> dict[str, Any]:
        """Memory of the process, and of the sequence's keys and values."""
        return {**_protocol.memory(), "kv_bytes": self.cache.n_bytes}


if __name__ == "__main__":
    _protocol.serve(Apr())
