"""Ways to run what was converted: our engine, transformers, gguf-py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apr.engines import native, numpy
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Span

TOKEN_IDS = [5, 40, 99, 7, 260, 12, 33, 200, 1, 2, 3, 4]
ENDING = {"safetensors": "", "gguf": ".gguf", "apr": ".apr"}


def logits(path: Path, token_ids: list[int] = TOKEN_IDS) -> np.ndarray:
    """float32 [n_tokens, vocab_size] of the NumPy engine: its bits depend on the decoded values alone."""
    with open_model(path) as file:
        session = numpy.load(Checkpoint(file), threads=1)
        return session.forward([Span(np.array(token_ids), session.new_cache())], rows="all")


def greedy(path: Path, token_ids: list[int], *, n_new: int) -> list[int]:
    """The most probable continuation by our engine, token by token."""
    with open_model(path) as file:
        session = native.load(Checkpoint(file), threads=2)
        cache, ids, found = session.new_cache(), token_ids, []
        for _ in range(n_new):
            found.append(int(np.argmax(session.forward([Span(np.array(ids), cache)])[-1])))
            ids = found[-1:]
        return found


def transformers_logits(folder: Path, token_ids: list[int] = TOKEN_IDS) -> np.ndarray:
    """float32 [n_tokens, vocab_size] of transformers, loaded from the folder alone."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([token_ids])).logits[0].numpy()
    return found


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two float32 arrays hold the same bits."""
    return one.shape == other.shape and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def leftovers(folder: Path) -> list[str]:
    """What a conversion left in a folder."""
    return sorted(path.name for path in folder.iterdir())
