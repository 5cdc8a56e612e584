"""llama.cpp through llama-cpp-python's low-level interface, with its defaults: flash attention auto, F16 cache."""

import ctypes
import re
import time
from typing import Any

import _llama_loop
import _protocol
import llama_cpp


class LlamaCpp(_llama_loop.LlamaLoop):
    """One context for up to eight sequences."""

    api = llama_cpp

    def load(self, path: str, threads: int, n_sequences: int = 1) -> dict[str, Any]:
        """Load; n_sequences: how many share the context."""
        started = time.perf_counter()
        _silence()
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = _llama_loop.N_CTX, _llama_loop.N_BATCH, _llama_loop.N_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.n_seq_max = n_sequences
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.start()
        return {
            "seconds": time.perf_counter() - started,
            "versions": {"llama-cpp-python": llama_cpp.__version__},
            "instruction_set": _features(llama_cpp.llama_print_system_info().decode()),
        }

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)


def _silence() -> None:
    global _log  # the library keeps only the pointer
    _log = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))


def _features(info: str) -> str:
    """The instruction sets of the build, out of a line like "CPU : SSE3 = 1 | AVX = 1 | …"."""
    return " ".join(name for name in re.findall(r"(\w+) = 1", info) if name.startswith(("AVX", "AMX", "NEON", "SVE")))


if __name__ == "__main__":
    _protocol.serve(LlamaCpp())
