"""A transformers model as a session: eager attention, a DynamicCache a sequence, one sequence after the other."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from apr.engines._alignment import SlotPlace, places
from apr.engines._base import Rows, check_logits, check_spans, read_only
from apr.engines._transformers_taps import installed
from apr.errors import EngineError
from apr.models._config import ModelConfig
from apr.models._decoder import Span, Tap, no_tap


class TransformersCache:
    """A sequence's keys and values as transformers keeps them.

    Layers with a window keep every position too: the mask hides the rest, and positions can be forgotten exactly.
    """

    def __init__(self) -> None:
        from transformers import DynamicCache

        self.past = DynamicCache()
        self.length = 0

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        assert 0 <= length <= self.length
        self.length = length
        self.settle()

    def settle(self) -> None:
        """Drop what a pass that did not end has left beyond `length`."""
        for layer in self.past.layers:
            # a negative count removes so many positions, in every version; a positive one has changed its meaning
            surplus = layer.get_seq_length() - self.length
            if surplus > 0:
                layer.crop(-surplus)


class TransformersSession:
    """A loaded `…ForCausalLM`.

    slots:  the names that a tap is called with
    """

    engine = "transformers"
    kernel_set = "torch"

    def __init__(self, model: Any, config: ModelConfig, *, threads: int) -> None:
        import torch
        import transformers

        self.threads = threads
        self.engine_version = f"{transformers.__version__} (torch {torch.__version__})"
        self.instruction_set = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        self.activations = self.kv_cache_dtype = str(model.dtype).removeprefix("torch.")
        self.max_positions = config.max_position_embeddings
        self.model = model
        self._vocab_size = config.vocab_size
        names = dict(model.named_modules())
        self._places: dict[str, SlotPlace] = {
            slot: place for slot, place in places(config).items() if place.module in names
        }

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots that a tap sees."""
        return tuple(self._places)

    def new_cache(self) -> TransformersCache:
        """An empty cache for one sequence."""
        return TransformersCache()

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after new tokens (`Session.forward`). With a tap, one sequence at a time."""
        check_spans(spans, vocab_size=self._vocab_size)
        if tap is not no_tap and len(spans) > 1:
            raise EngineError("transformers shows the slots of one sequence at a time; give it the spans one by one")
        with _threads(self.threads):
            logits = np.concatenate([self._one(span, read_only(tap), rows) for span in spans])
        check_logits(logits, spans)
        return logits

    def _one(self, span: Span, tap: Tap, rows: Rows) -> np.ndarray:
        import torch

        cache = span.cache
        assert isinstance(cache, TransformersCache)
        watched = nullcontext() if tap is no_tap else installed(self.model, self._places, tap=tap, rows=rows)
        try:
            with torch.inference_mode(), watched:
                output = self.model(
                    input_ids=torch.from_numpy(np.ascontiguousarray(span.token_ids, dtype=np.int64))[None],
                    past_key_values=cache.past,
                    use_cache=True,
                    logits_to_keep=1 if rows == "last" else 0,
                )
            logits: np.ndarray = output.logits[0].to(torch.float32).numpy()
            logits = np.asarray(tap("logits", logits), dtype=np.float32)
        except BaseException:
            cache.settle()
            raise
        cache.length += len(span.token_ids)
        return logits


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch's number of threads is the process's: set it for a pass, and put it back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
