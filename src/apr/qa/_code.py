"""Is a model a code model, and does the code that it writes parse?"""

from __future__ import annotations

import ast
import re
import warnings

from apr.qa._judged import Judged

# metadata that names a model; `tags` and `base_model` are as the hub has them
_KEYS = (
    "general.name",
    "general.basename",
    "general.finetune",
    "general.tags",
    "name",
    "_name_or_path",
    "tags",
    "model_name",
)
# a word of a name; an encoder is no coder
_NAME = re.compile(
    r"(?!\w*(?:en|de)coder)(?:\w*coder|code|code(?:llama|gen|gemma|qwen|stral)|devstral)\d*", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def named_as_code(judged: Judged) -> str | None:
    """What says that this is a code model: a name that has "code" or "coder" as a word, in the file's metadata or path."""
    metadata = {**judged.file.metadata, **judged.file.documents.get("config.json", {})}
    for key in _KEYS:
        value = metadata.get(key)
        texts = (
            [value]
            if isinstance(value, str)
            else [str(one) for one in value]
            if isinstance(value, list | tuple)
            else []
        )
        for text in texts:
            if _is_code(text):
                return f"{key} is {text!r}"
    for text in (judged.path.name, judged.model.name.rpartition("/")[2]):
        if _is_code(text):
            return f"the model is called {text!r}"
    return None


def parsed(source: str, *, function: str, is_cut: bool) -> str | None:
    """Why some code is no Python in which a function does something; None if it is."""
    found = longest(source, is_cut=is_cut)
    if isinstance(found, str):
        return found
    tree, _ = found
    return None if _does_something(tree, function) else f"{function} has no body"


def longest(source: str, *, is_cut: bool) -> tuple[ast.Module, int] | str:
    """Code as a tree, with how many of its lines that is; or why it is no Python.

    is_cut:  it was cut off by the number of tokens: the most whole lines that parse count
    """
    lines = source.splitlines()
    problem = ""
    for n in range(len(lines), 0, -1) if is_cut else [len(lines)]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a string is a matter of taste here
                return ast.parse("\n".join(lines[:n]) + "\n"), n
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            problem = problem or str(exc) or "nested too deeply"  # of a MemoryError, from the parser
    return problem or "there is no code"


def fenced(text: str) -> str:
    """The first code block of an answer; the answer itself if it has none."""
    match = _FENCE.search(text)
    return match.group(1) if match else text


def _is_code(name: str) -> bool:
    return any(_NAME.fullmatch(part) for part in re.split(r"[^A-Za-z0-9]+", name))


def _does_something(tree: ast.Module, function: str) -> bool:
    """Whether the function is there with more than a docstring in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            rest = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            return bool(rest)
    return False
