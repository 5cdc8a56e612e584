"""The NumPy kernel set holds the op of each file under its own name."""

from __future__ import annotations

import dataclasses
from importlib import import_module

import pytest

from apr.kernels._set import NUMPY, KernelSet

HOMES = {"gelu_tanh": "gelu"}
OPS = [f.name for f in dataclasses.fields(KernelSet) if f.name != "name"]


@pytest.mark.parametrize("op", OPS)
def test_each_op_is_the_function_of_its_file(op: str) -> None:
    assert getattr(NUMPY, op) is getattr(import_module(f"apr.kernels.{HOMES.get(op, op)}"), op)


def test_a_set_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NUMPY.linear = NUMPY.silu  # type: ignore[misc]
    assert NUMPY.name == "numpy"
