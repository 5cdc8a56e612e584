"""apr: run a language model, and prove that the copy you ship says the same thing as the original.

The names below are loaded when they are first used, so that `import apr` stays under 50 ms and without NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apr.engines._language_model import LanguageModel, load
    from apr.engines._record import RunRecord
    from apr.formats import open_model
    from apr.hub import pull
    from apr.parity.why import why

__version__ = "0.1.0"
__all__ = ["LanguageModel", "RunRecord", "__version__", "load", "open_model", "pull", "why"]

_HOMES = {
    "LanguageModel": "apr.engines._language_model",
    "RunRecord": "apr.engines._record",
    "load": "apr.engines._language_model",
    "open_model": "apr.formats",
    "pull": "apr.hub",
    "why": "apr.parity.why",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'apr' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
