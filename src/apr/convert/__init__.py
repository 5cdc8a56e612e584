"""Lossless conversion between GGUF, safetensors and `.apr`: what the target can hold is kept byte for byte, and read back.

`transcode.py` is the door. A conversion plans (`_items.py`), says the rest in the target's words (`_to_*.py`), writes under a temporary
name (`_staging.py`), compares what it reads back with the source (`_readback.py`), and only then gives the file its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apr.convert.transcode import Conversion, Plan, convert, plan

__all__ = ["Conversion", "Plan", "convert", "plan"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from apr.convert import transcode

    return getattr(transcode, name)
