"""transformers on PyTorch: every weight dequantised, float32 matrix products. The bar for prefill, and a second reference."""

import time
from pathlib import Path
from typing import Any

import _protocol
import numpy as np
import torch
import transformers

from apr.formats import open_model
from apr.models import _config_hf
from apr.models._checkpoint import Checkpoint


class Torch:
    """A transformers model with the checkpoint's weights."""

    def load(self, path: str, threads: int) -> dict[str, Any]:
        """Build the model from our reader's configuration and decoded tensors: no file is written."""
        started = time.perf_counter()
        torch.set_num_threads(threads)
        checkpoint = Checkpoint(open_model(Path(path)))
        document = _config_hf.to_hf(checkpoint.config, torch_dtype="float32")
        config = transformers.AutoConfig.for_model(**document)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        state = {name: torch.from_numpy(values) for name, values in checkpoint.weights().items()}
        offset = checkpoint.architecture.HF_NORM_OFFSET
        state = {name: t - offset if offset and name.endswith("norm.weight") else t for name, t in state.items()}
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        rotary = model.model.rotary_emb
        model.model.rotary_emb = type(rotary)(config=config)  # its frequencies are no weights: made on the CPU again
        self.model = model.eval()
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return {"seconds": time.perf_counter() - started, "versions": versions}

    @torch.inference_mode()
    def prefill(self, token_ids: list[int]) -> dict[str, Any]:
        """One pass over the prompt; the head for the last token only, as for all contestants."""
        ids = torch.tensor([token_ids])
        started = time.perf_counter()
        logits = self.model(ids, use_cache=True, logits_to_keep=1).logits[0, -1]
        chosen = int(logits.argmax())
        return {"seconds": time.perf_counter() - started, "n_tokens": len(token_ids), "token_ids": [chosen]}

    @torch.inference_mode()
    def logits(self, token_ids: list[int], out: str) -> dict[str, Any]:
        """Save the logits after each token, float32 [n_tokens, vocab_size]."""
        np.save(out, self.model(torch.tensor([token_ids])).logits[0].float().numpy())
        return {}

    def memory(self) -> dict[str, Any]:
        """Memory of the process."""
        return dict(_protocol.memory())


if __name__ == "__main__":
    _protocol.serve(Torch())
