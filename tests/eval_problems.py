"""Small problems in HumanEval's form, for tests without the package."""

from __future__ import annotations

from apr.evals._problems import Problem

TOTAL = Problem(
    id="Small/0",
    prompt='from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ Add them up. """\n',
    entry_point="total",
    canonical="    return sum(xs)\n",
    test="def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
)
DECODE = Problem(
    id="Small/1",
    prompt='def encode(s: str):\n    return s[::-1]\n\n\ndef decode(s: str):\n    """ Undo encode. """\n',
    entry_point="decode",
    canonical="    return s[::-1]\n",
    test="def check(candidate):\n    assert candidate(encode('abc')) == 'abc'\n    assert decode('x') == 'x'\n",
)
PROBLEMS = [TOTAL, DECODE]
