"""ik_llama.cpp, a faster fork of llama.cpp, through the ctypes interface of ik-llama-cpp-python.

Its Python `generate` loops over the vocabulary for every token; the engine alone is measured here.
"""

import importlib.metadata
import time
from typing import Any

import _llama_loop
import _protocol
from ik_llama_cpp import _ctypes_api as ik


class IkLlamaCpp(_llama_loop.LlamaLoop):
    """One context for up to eight sequences."""

    api = ik

    def load(self, path: str, threads: int, n_sequences: int = 1) -> dict[str, Any]:
        """Load; n_sequences: how many share the context."""
        started = time.perf_counter()
        ik.llama_backend_init()
        self.model = ik.llama_model_load_from_file(path.encode(), ik.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"ik_llama.cpp does not load {path}")
        params = ik.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = _llama_loop.N_CTX, _llama_loop.N_BATCH, _llama_loop.N_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.n_seq_max = n_sequences
        # its flash attention aborts on a batch of several sequences (GGML_ASSERT(S > 0) in iqk_fa_templates.h)
        params.flash_attn = params.flash_attn and n_sequences == 1
        self.context = ik.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("ik_llama.cpp makes no context")
        self.n_vocab = ik.llama_vocab_n_tokens(ik.llama_model_get_vocab(self.model))
        self.start()
        version = importlib.metadata.version("ik-llama-cpp-python")
        return {"seconds": time.perf_counter() - started, "versions": {"ik-llama-cpp-python": version}}

    def clear(self) -> None:
        """Forget all sequences."""
        ik.llama_kv_cache_clear(self.context)


if __name__ == "__main__":
    _protocol.serve(IkLlamaCpp())
