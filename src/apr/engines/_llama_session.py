"""A GGUF file in llama.cpp as a session: a context of llama.cpp's for each sequence, with one sequence in it.

A context's size, and whether it calls back for taps, are settled when it is made. So a cache starts small, and is moved into
another context, state and all, when it gets longer or is first tapped; without a tap nothing is called back.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apr.engines._alignment import SlotPlace, places
from apr.engines._base import Activations, Rows, check_logits, check_spans, read_only
from apr.engines._llama_graph import Node, Watcher, check_layout, find_slots
from apr.engines._llama_library import FLASH_ATTENTION_OFF, KV_FLOAT32, Library
from apr.errors import EngineError, UnsupportedError
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig
from apr.models._decoder import Span, Tap, no_tap

_UBATCH = 512  # tokens that llama.cpp computes together: its own default
_CELLS = 256  # a context's size is a multiple of this: llama.cpp pads it so
_NOT_INSTRUCTIONS = {
    "LLAMAFILE",
    "OPENMP",
    "REPACK",
    "ACCELERATE",
    "KLEIDIAI",
}  # ways to compute that it lists among them
# weights that are multiplied in their own type; all others meet activations rounded to 8 bits (ggml-cpu.c, vec_dot_type)
_PLAIN = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


class LlamaModel:
    """A loaded model's handle; freed when nothing refers to it."""

    def __init__(self, library: Library, path: Path, *, vocab_only: bool = False) -> None:
        self.handle = 0
        self.library = library
        self.handle = library.load_model(path, vocab_only=vocab_only)
        self.vocab: int = library.llama_model_get_vocab(self.handle)

    def __del__(self) -> None:
        if self.handle:
            self.library.llama_model_free(self.handle)


class LlamaContext:
    """A context's handle, its size, and its watcher if it was made for taps; freed when nothing refers to it."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_cells: int,
        n_ubatch: int,
        threads: int,
        is_exact: bool,
        is_fused: bool,
        is_watched: bool,
    ) -> None:
        self.handle = 0
        self.model, self.library = model, model.library  # the model must outlive the context
        self.n_ubatch = n_ubatch
        self.watcher = Watcher(self.library) if is_watched else None
        fields = {"n_ctx": n_cells, "n_batch": n_ubatch, "n_ubatch": n_ubatch}
        if not is_fused:
            fields |= {"flash_attn_type": FLASH_ATTENTION_OFF}
        if is_exact:
            fields |= {"type_k": KV_FLOAT32, "type_v": KV_FLOAT32}
        if self.watcher is not None:
            fields["cb_eval"] = self.watcher.address
        self.handle = self.library.open_context(model.handle, fields)
        self.n_cells: int = self.library.llama_n_ctx(self.handle)
        self.library.llama_set_n_threads(self.handle, threads, threads)

    def __del__(self) -> None:
        if self.handle:
            self.library.llama_free(self.handle)

    def decode(self, token_ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Compute at most `n_ubatch` tokens after what the context holds.

        wanted:   int8 [n_tokens], 1 where logits are wanted
        Returns   float32 [wanted.sum(), vocab_size]
        Raises    EngineError
        """
        tokens = np.ascontiguousarray(token_ids, dtype=np.int32)
        batch = self.library.llama_batch_get_one(tokens.ctypes.data, tokens.size)
        batch.logits = wanted.ctypes.data
        self.library.errors.clear()
        status = self.library.llama_decode(self.handle, batch)
        if self.watcher is not None:
            self.watcher.finish()
        if status:
            raise EngineError(f"llama_decode answered {status}: {self.library.why(otherwise='no reason given')}")
        shape = (int(wanted.sum()), self.library.llama_vocab_n_tokens(self.model.vocab))
        if not shape[0]:
            return np.empty(shape, dtype=np.float32)
        pointer = ctypes.cast(self.library.llama_get_logits(self.handle), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=shape).copy()

    def forget(self, length: int) -> None:
        """Keep only the first positions. Raises EngineError."""
        if not self.library.llama_memory_seq_rm(self.library.llama_get_memory(self.handle), 0, length, -1):
            raise EngineError(f"llama.cpp cannot forget the positions from {length} on for this model")

    def copy_to(self, other: LlamaContext) -> None:
        """Put the sequence's state into another context. Raises EngineError."""
        size = self.library.llama_state_seq_get_size(self.handle, 0)
        state = np.empty(size, dtype=np.uint8)
        written = self.library.llama_state_seq_get_data(self.handle, state.ctypes.data, size, 0)
        if not written or not self.library.llama_state_seq_set_data(other.handle, state.ctypes.data, written, 0):
            raise EngineError("llama.cpp could not move a sequence into a larger context")


class LlamaCache:
    """One sequence's context, made when it is first needed."""

    def __init__(self) -> None:
        self.context: LlamaContext | None = None
        self.length = 0

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        assert 0 <= length <= self.length
        if self.context is not None and length < self.length:
            self.context.forget(length)
        self.length = length


class LlamaSession:
    """A model in llama.cpp.

    activations:  "int8" where weights are quantised; llama.cpp has no other way
    slots:        the names that a tap is called with
    """

    kernel_set = "ggml"

    def __init__(
        self,
        library: Library,
        checkpoint: Checkpoint,
        *,
        threads: int,
        activations: Activations,
        is_fused: bool = True,
    ) -> None:
        if not is_fused and "flash_attn_type" not in library.context_offsets:
            raise UnsupportedError(f"{library.name} does not show where its attention is chosen; use llama-cpp")
        self.engine = "llama-cpp" if is_fused else "llama-cpp-noflash"
        self.library = library
        self.threads = threads
        self.engine_version = library.name
        self.instruction_set = _instruction_set(library.llama_print_system_info().decode())
        self.activations = _activations(checkpoint)
        # exact as far as llama.cpp can be, or as its users run it
        self._is_exact = activations == "float32" and "type_k" in library.context_offsets
        self._is_fused = is_fused and not self._is_exact
        self.kv_cache_dtype = "float32" if self._is_exact else "float16"
        self.max_positions = checkpoint.config.max_position_embeddings
        self._config: ModelConfig = checkpoint.config
        self._model = LlamaModel(library, checkpoint.file.path)
        vocab_size = library.llama_vocab_n_tokens(self._model.vocab)
        if vocab_size != checkpoint.config.vocab_size:
            raise EngineError(
                f"{checkpoint.file.path}: llama.cpp counts {vocab_size} tokens, the file says {checkpoint.config.vocab_size}"
            )
        self._nodes: list[Node] = []
        self._found: dict[int, list[SlotPlace]] | None = None

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots that a tap sees, in the order of the pass; none if this build cannot be tapped."""
        found = {place.slot for at in self._plan().values() for place in at}
        return tuple(slot for slot in places(self._config) if slot in found)

    def new_cache(self) -> LlamaCache:
        """An empty cache for one sequence."""
        return LlamaCache()

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after new tokens (`Session.forward`). With a tap, one sequence at a time."""
        check_spans(spans, vocab_size=self._config.vocab_size)
        if tap is not no_tap:
            if len(spans) > 1:
                raise EngineError("llama.cpp shows the slots of one sequence at a time; give it the spans one by one")
            if not self.library.can_tap:
                raise EngineError(
                    f"{self.library.name} does not show where its evaluation callback is set; install llama-cpp-python for taps"
                )
        logits = np.concatenate([self._one(span, read_only(tap), rows) for span in spans])
        check_logits(logits, spans)
        return logits

    def _one(self, span: Span, tap: Tap, rows: Rows) -> np.ndarray:
        cache = span.cache
        assert isinstance(cache, LlamaCache)
        n_tokens, is_tapped = len(span.token_ids), tap is not no_tap
        context = self._context(
            cache, cache.length + n_tokens, n_together=n_tokens if is_tapped else _UBATCH, is_tapped=is_tapped
        )
        # a tap sees every row of the last layer only if logits are wanted of all of them
        wanted = np.full(n_tokens, rows == "all" or is_tapped, dtype=np.int8)
        wanted[-1] = 1
        if context.watcher is not None:
            plan = self._plan() if is_tapped else {}
            context.watcher.show(tap, rows=rows, plan=plan, expected=self._nodes)
        parts = []
        try:
            for start in range(0, n_tokens, context.n_ubatch):
                part = slice(start, start + context.n_ubatch)
                parts.append(context.decode(span.token_ids[part], wanted[part]))
        except BaseException:
            context.forget(cache.length)
            raise
        cache.length += n_tokens
        logits = np.concatenate(parts)
        return logits[-1:] if rows == "last" else logits

    def _context(self, cache: LlamaCache, length: int, *, n_together: int, is_tapped: bool) -> LlamaContext:
        """The cache's context, replaced if it is too small or cannot be tapped."""
        held = cache.context
        is_enough = held is not None and held.n_cells >= length
        if held is not None and is_enough and (not is_tapped or (held.watcher and held.n_ubatch >= n_together)):
            return held
        most = -(-max(self.max_positions, length) // _CELLS) * _CELLS
        n_cells = min(most, max(2 * _CELLS, 1 << (length - 1).bit_length()))
        made = LlamaContext(
            self._model,
            n_cells=max(n_cells, held.n_cells if held else 0),
            n_ubatch=max(_UBATCH, n_together),
            threads=self.threads,
            is_exact=self._is_exact,
            is_fused=self._is_fused,
            is_watched=is_tapped,
        )
        if made.n_cells < length:
            raise EngineError(
                f"{self.library.name} made a context of {made.n_cells} positions, the sequence has {length}"
            )
        if held is not None and cache.length:
            held.copy_to(made)
        cache.context = made
        return made

    def _plan(self) -> dict[int, list[SlotPlace]]:
        """The nodes that hold slots, found on the first tapped pass by computing one token aside."""
        if self._found is None:
            if not self.library.can_tap:
                return {}
            aside = LlamaContext(
                self._model,
                n_cells=_CELLS,
                n_ubatch=_UBATCH,
                threads=self.threads,
                is_exact=self._is_exact,
                is_fused=self._is_fused,
                is_watched=True,
            )
            assert aside.watcher is not None
            aside.watcher.collect()
            aside.decode(np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.int8))
            self._nodes = aside.watcher.nodes or []
            if not self._nodes:
                raise EngineError(f"{self.library.name} did not call back: its graph cannot be seen")
            check_layout(self.library, self._nodes[0].address)
            self._found = find_slots(self._nodes, places(self._config).values())
        return self._found


def _activations(checkpoint: Checkpoint) -> Activations | str:
    """How activations meet the weights: the types of the file's matrices say."""
    codecs = {place.info.codec for place in checkpoint.tensors.values() if len(place.info.shape) > 1}
    kinds = {_PLAIN.get(codec, "int8") for codec in codecs}
    return next(kind for kind in ("int8", "bfloat16", "float16", "float32") if kind in kinds)


def _instruction_set(system_info: str) -> str:
    """The instruction sets that llama.cpp says it uses, such as "x86_64 AVX AVX2 F16C"."""
    found = re.findall(r"(\w+) = 1", system_info.partition("CPU :")[2])
    return " ".join([platform.machine(), *(name for name in found if name not in _NOT_INSTRUCTIONS)])
