"""The compiled kernels, if this installation has them. Everybody asks here, so that APR_ISA is obeyed.

APR_ISA    the instruction set to compute with, instead of the best one that the processor has
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType

from apr.errors import UsageError

_NAME = "apr.kernels._native"


@cache
def native() -> ModuleType | None:
    """`apr.kernels._native`, set to APR_ISA; None where it cannot be imported.

    Raises UsageError for an APR_ISA that cannot be had.
    """
    module, _ = _load()
    if wanted := os.environ.get("APR_ISA", "").strip():
        available = [] if module is None else module.instruction_sets()
        if module is None or wanted not in available:
            raise UsageError(
                f"APR_ISA is {wanted!r}, this installation on this processor has "
                f"{', '.join(available) or 'no compiled kernels'}; set it to one that is there, or unset it"
            )
        module.use_instruction_set(wanted)
    return module


def unavailable_reason() -> str | None:
    """Why `native()` is None, in words; None if it is not."""
    return _load()[1]


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return import_module(_NAME), None
    except ModuleNotFoundError as exc:
        if exc.name == _NAME:
            return None, "the compiled kernels are not installed"
        return None, f"the compiled kernels cannot be loaded ({exc})"
    except ImportError as exc:  # built for another system: a newer C library, another Python
        return None, f"the compiled kernels cannot be loaded ({exc})"
