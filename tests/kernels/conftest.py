"""Kernel tests run under the instruction set that APR_ISA names, whichever of them comes first."""

from __future__ import annotations

from apr.kernels import _extension

_extension.native()  # reads APR_ISA
