"""A code model's Python is Python."""

from __future__ import annotations

from collections.abc import Iterator

from apr.evals._passing import wilson
from apr.qa import _code
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

_FUNCTIONS = {
    "add": 'def add(a, b):\n    """Return the sum of two numbers."""\n',
    "is_even": 'def is_even(n):\n    """Return True if n is even."""\n',
    "factorial": 'def factorial(n):\n    """Return n!, the product of the numbers from 1 to n."""\n',
    "reverse": 'def reverse(text):\n    """Return the text backwards."""\n',
    "largest": 'def largest(numbers):\n    """Return the largest of a list of numbers, and None for an empty one."""\n',
    "fib": "def fib(n):\n",
}
_ASKED = {
    "square": "Write a Python function square(x) that returns x times x. Answer with the code only.",
    "greet": "Write a Python function greet(name) that returns a greeting. Answer with the code only.",
}
# where the function is over and something else begins
_STOP = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n```", "\nassert ", "\nimport ", "\nfrom ")
_TOKENS = {"smoke": 64}
_TOKENS_RELEASE = 128
_BATCH = 8
_LEAST_PARSED = 0.75


@gate(
    rationale="A code model that lost a little of itself writes code that looks right and does not parse.",
    source="the Python language reference, by ast.parse; ship-two 4.1: the ast criterion of the teacher's release",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Functions that the model goes on with, or writes when it is asked to, parse and have a body: three of four at least."""
    reason = _code.named_as_code(judged)
    if reason is None:
        message = (
            "neither the metadata nor the name says that this is a code model (a name with the word code or coder)"
        )
        yield Finding("skip", "no-code-model", message)
        return
    model = judged.language_model
    tokens = _TOKENS.get(judged.profile, _TOKENS_RELEASE)
    runs = [
        model.run(text, regime="raw", max_tokens=tokens, stop=_STOP, prompt_id=name)
        for name, text in _FUNCTIONS.items()
    ]
    if model.template is not None:
        runs += [model.run(text, regime="chat", max_tokens=tokens, prompt_id=name) for name, text in _ASKED.items()]
    for _ in model.run_together(runs, batch_size=_BATCH):
        pass
    wrong = []
    for run in runs:
        name = str(run.prompt_id)
        source = _FUNCTIONS[name] + run.text if name in _FUNCTIONS else _code.fenced(run.text)
        problem = _code.parsed(source, function=name, is_cut=run.finish_reason == "length")
        if problem is not None:
            wrong.append({"prompt": name, "problem": problem, "text": source})
    n_parsed = len(runs) - len(wrong)
    measure = {"n_parsed": n_parsed, "n_prompts": len(runs), "parsed_share": n_parsed / len(runs)}
    interval = wilson(n_parsed, len(runs))
    if n_parsed >= _LEAST_PARSED * len(runs):
        message = f"{n_parsed} of {len(runs)} functions parse ({reason})"
        yield Finding("pass", "parses", message, {"wrong": wrong}, measure, interval)
        return
    first = wrong[0]
    message = (
        f"{n_parsed} of {len(runs)} functions parse; {first['prompt']}: {first['problem']}, in {first['text'][-60:]!r}"
    )
    yield Finding("fail", "syntax", message, {"prompt": first["prompt"], "wrong": wrong}, measure, interval)
