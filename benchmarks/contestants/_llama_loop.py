"""The loop over llama.cpp's C interface that its two bindings share: fill a batch, decode, take the highest logit.

No Python runs per entry of the vocabulary: the highest logit is found by NumPy in place, as for our engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import _protocol
import numpy as np

N_CTX = 1024
N_BATCH = 512
MAX_SEQUENCES = 8
MIB = 1 << 20

# (token id, position, sequence, whether its logits are wanted)
Entry = tuple[int, int, int, bool]


class LlamaLoop:
    """One loaded model and its context. A binding sets `api`, `context`, `n_vocab` and clears its own cache."""

    api: Any
    context: Any
    n_vocab: int

    def start(self) -> None:
        """Make the batch that every pass uses."""
        self.tokens = self.api.llama_batch_init(N_BATCH, 0, MAX_SEQUENCES)

    def clear(self) -> None:
        """Forget all sequences."""
        raise NotImplementedError

    def pass_over(self, entries: Sequence[Entry]) -> None:
        """One forward pass over new tokens."""
        tokens = self.tokens
        tokens.n_tokens = len(entries)
        for i, (token_id, position, sequence, is_wanted) in enumerate(entries):
            tokens.token[i], tokens.pos[i] = token_id, position
            tokens.n_seq_id[i], tokens.seq_id[i][0] = 1, sequence
            tokens.logits[i] = is_wanted
        status = self.api.llama_decode(self.context, tokens)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")

    def row(self, i: int) -> np.ndarray:
        """float32 [vocab_size]: the logits after entry i of the last pass, where they lie."""
        return np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, i), (self.n_vocab,))

    def prefill(self, token_ids: list[int]) -> dict[str, Any]:
        """A new sequence: one pass over the prompt."""
        self.clear()
        last = len(token_ids) - 1
        entries = [(token_id, i, 0, i == last) for i, token_id in enumerate(token_ids)]
        started = time.perf_counter()
        self.pass_over(entries)
        self.next_id, self.position = int(self.row(last).argmax()), len(token_ids)
        return {"seconds": time.perf_counter() - started, "n_tokens": len(token_ids), "token_ids": [self.next_id]}

    def decode(self, n_tokens: int, limit_s: float) -> dict[str, Any]:
        """Greedy steps after the prompt, as many as `limit_s` allows."""
        token_ids: list[int] = []
        started = time.perf_counter()
        while len(token_ids) < n_tokens and time.perf_counter() - started < limit_s:
            self.pass_over([(self.next_id, self.position, 0, True)])
            self.next_id, self.position = int(self.row(0).argmax()), self.position + 1
            token_ids.append(self.next_id)
        return {"seconds": time.perf_counter() - started, "n_tokens": len(token_ids), "token_ids": token_ids}

    def batch(self, prompts: list[list[int]], n_tokens: int) -> dict[str, Any]:
        """Greedy steps of several sequences at once; the prompts' pass is not timed."""
        self.clear()
        entries = [
            (token_id, i, sequence, i == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for i, token_id in enumerate(prompt)
        ]
        self.pass_over(entries)
        chosen = [int(self.row(i).argmax()) for i, entry in enumerate(entries) if entry[3]]
        steps = [chosen]
        started = time.perf_counter()
        for step in range(n_tokens):
            self.pass_over([(chosen[s], len(prompt) + step, s, True) for s, prompt in enumerate(prompts)])
            chosen = [int(self.row(s).argmax()) for s in range(len(prompts))]
            steps.append(chosen)
        seconds = time.perf_counter() - started
        sequences = [list(ids) for ids in zip(*steps, strict=True)]
        return {"seconds": seconds, "n_tokens": n_tokens * len(prompts), "sequences": sequences}

    def logits(self, token_ids: list[int], out: str) -> dict[str, Any]:
        """Save logits, float32 [rows, vocab_size]: after the first half, one pass, and after each later token, one by one."""
        self.clear()
        half = len(token_ids) // 2
        self.pass_over([(token_id, i, 0, i == half - 1) for i, token_id in enumerate(token_ids[:half])])
        rows = [self.row(half - 1).copy()]
        for i in range(half, len(token_ids)):
            self.pass_over([(token_ids[i], i, 0, True)])
            rows.append(self.row(0).copy())
        np.save(out, np.stack(rows))
        return {}

    def memory(self) -> dict[str, Any]:
        """Memory of the process."""
        return dict(_protocol.memory())
