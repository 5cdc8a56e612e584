"""Code out of answers: fences of every kind, and the imports that answers leave out."""

from __future__ import annotations

import pytest

from apr.evals._extraction import answered, code_of, continued, preamble

PROMPT = 'from typing import List\nimport math\n\n\ndef f(xs: List[int]) -> int:\n    """ Sum. """\n'
CODE = "def f(xs: List[int]) -> int:\n    return math.floor(sum(xs))\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{CODE}```",
        f"Here:\n```py\n{CODE}\n```\nThat is all.",
        f"```\n{CODE}```",
        f"~~~python\n{CODE}~~~",
        f"````python\n{CODE}````",
        f"```python\n{CODE}",
        CODE,
        f"```python\nprint(f([1]))\n```\nand\n```python\n{CODE}```",
        f"```bash\npip install x\n```\n```python\n{CODE}```",
        "1. so:\n   ```python\n" + "".join(f"   {line}\n" for line in CODE.splitlines()) + "   ```",
        f"```python\nfrom typing import List\n{CODE}```",
    ],
    ids=["python", "words around", "no label", "tildes", "four", "cut short", "no fence", "second block defines", "shell first",
         "indented", "its own import"],
)  # fmt: skip
def test_the_function_is_found_and_its_imports_are_kept(answer: str) -> None:
    namespace: dict[str, object] = {}
    exec(compile(answered(PROMPT, answer, "f"), "", "exec", dont_inherit=True), namespace)
    assert namespace["f"]([1, 2]) == 3  # type: ignore[operator]


def test_without_the_preamble_the_imports_are_lost() -> None:
    with pytest.raises(NameError):
        exec(compile(code_of(f"```python\n{CODE}```", "f"), "", "exec", dont_inherit=True), {})


def test_no_block_that_defines_it_gives_the_first_of_python() -> None:
    assert code_of("```text\nno\n```\n```python\nx = 1\n```\n```python\ny = 2\n```", "f") == "x = 1\n"
    assert code_of("just words", "f") == "just words"


def test_the_preamble_is_what_stands_before_the_function() -> None:
    assert preamble(PROMPT, "f") == "from typing import List\nimport math\n\n\n"
    assert preamble("def g(): pass\n\ndef f(): pass", "f") == "def g(): pass\n\n"
    assert preamble("nothing", "f") == "" and preamble("def ff(): pass", "f") == ""


def test_a_continuation_goes_on_with_the_prompt() -> None:
    assert continued(PROMPT, "    return 1\n") == PROMPT + "    return 1\n"
