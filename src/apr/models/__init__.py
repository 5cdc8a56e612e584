"""Architectures, one a file: its names elsewhere, its tensors, its forward pass. No I/O, no sampling.

A model type that is no file's name (`mistral`) and a GGUF or Hugging Face name are found by asking each file.
"""

from __future__ import annotations

from types import ModuleType

from apr import _folder
from apr.errors import UnsupportedError


def names() -> list[str]:
    """The architectures that we run, by file name."""
    return _folder.names(__name__)


def for_model_type(model_type: str) -> ModuleType:
    """The architecture of a `model_type` of config.json. Raises UnsupportedError, listing what there is."""
    return _find("MODEL_TYPES", model_type)


def for_gguf(architecture: str) -> ModuleType:
    """The architecture of a GGUF `general.architecture`. Raises UnsupportedError, listing what there is."""
    return _find("GGUF_ARCHITECTURES", architecture)


def for_class(class_name: str) -> ModuleType:
    """The architecture of a transformers class such as `LlamaForCausalLM`. Raises UnsupportedError, listing what there is."""
    return _find("HF_ARCHITECTURES", class_name)


def _find(attribute: str, wanted: str) -> ModuleType:
    known: list[str] = []
    for name in names():
        module = _folder.load(__name__, name)
        if wanted in getattr(module, attribute):
            return module
        known += getattr(module, attribute)
    raise UnsupportedError(f"the architecture {wanted!r} is not one that apr runs", known=sorted(known))
