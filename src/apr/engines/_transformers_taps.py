"""Taps inside a transformers model: hooks on its modules, and our name for its own eager attention.

A hook sees a module's input or output; the rotated queries and keys exist only on the way into the attention function,
so the model is loaded with an attention function of ours, which shows them and calls the architecture's own. A value is
forced by writing it into the tensor that holds it: whatever else refers to that tensor, such as the residual path or the
key-value cache, then goes on with the forced value too.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from apr.engines._alignment import SlotPlace
from apr.engines._base import Rows
from apr.models._decoder import Tap

ATTENTION = "apr_eager"

# attention module -> what to call with (query, key) before the attention is computed
_watched: weakref.WeakKeyDictionary[Any, Callable[[Any, Any], None]] = weakref.WeakKeyDictionary()


def register_attention() -> str:
    """Make our attention function known to transformers; its name, for `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    return ATTENTION


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    """Eager attention as the module's own file defines it; query [1, heads, n_new, head_dim], key with all positions."""
    watcher = _watched.get(module)
    if watcher is not None:
        watcher(query, key)
    own: Any = sys.modules[type(module).__module__]
    return own.eager_attention_forward(module, query, key, value, attention_mask, **options)


@contextmanager
def installed(model: Any, places: dict[str, SlotPlace], *, tap: Tap, rows: Rows) -> Iterator[None]:
    """While the context lasts, a forward pass of one sequence through `model` shows and takes back every slot but `logits`."""
    modules = dict(model.named_modules())
    rotated: dict[Any, list[SlotPlace]] = {}
    with ExitStack() as stack:
        for place in places.values():
            if place.module is None or place.slot == "logits":
                continue
            module = modules[place.module]
            if place.side in ("query", "key"):
                rotated.setdefault(module, []).append(place)
                continue
            handle = _hook(module, place, tap, is_last=rows == "last" and place.slot == "final_norm")
            stack.callback(handle.remove)
        for module, found in rotated.items():
            _watched[module] = _rotation_watcher(found, tap)
            stack.callback(_watched.pop, module, None)
        yield


def _hook(module: Any, place: SlotPlace, tap: Tap, *, is_last: bool) -> Any:
    def show(tensor: Any) -> None:
        view = tensor[0].transpose(0, 1) if place.heads_first else tensor[0]
        if is_last:
            view = view[-1:]
        if place.columns is not None:
            view = view[..., place.columns]
        _show(tap, place.slot, view)

    if place.side == "input":
        return module.register_forward_pre_hook(lambda _, inputs: show(inputs[0]))
    return module.register_forward_hook(lambda _, __, output: show(output[0] if isinstance(output, tuple) else output))


def _rotation_watcher(found: list[SlotPlace], tap: Tap) -> Callable[[Any, Any], None]:
    def watch(query: Any, key: Any) -> None:
        n_new = query.shape[2]
        for place in found:
            tensor = query if place.side == "query" else key[:, :, -n_new:]
            _show(tap, place.slot, tensor[0].transpose(0, 1))

    return watch


def _show(tap: Tap, slot: str, view: Any) -> None:
    """Hand a copy of a tensor's values to the tap, and write back what it returns instead."""
    import torch

    # a copy: what a tap keeps must not change when the model's tensor does
    value = view.detach().to(dtype=torch.float32, device="cpu", copy=True).numpy()
    returned = tap(slot, value)
    if returned is not value:
        new = torch.from_numpy(np.array(returned, dtype=np.float32))
        view.copy_(new.reshape(view.shape))
