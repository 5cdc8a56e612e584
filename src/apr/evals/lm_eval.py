"""lm-evaluation-harness with our engine as its model: `apr eval M --task lm-eval --suite TASK`.

Its own command line knows the model `apr` when this module starts it, with that program's own options:

    python -m apr.evals.lm_eval run --model apr --model_args pretrained=smollm2 --tasks TASK --include_path FOLDER
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import apr
from apr.engines._base import Span
from apr.engines._language_model import LanguageModel
from apr.engines._sampling import Sampling
from apr.engines._subject import Subject
from apr.errors import MissingDependency, UsageError
from apr.evals._options import Options
from apr.evals._passing import wilson
from apr.evals._report import EvalReport, Score, exit_code_of
from apr.hub import digest
from apr.parity._divergence import log_probabilities

OPTIONS = frozenset({"suites", "include", "batch_size", "max_tokens"})
_Z95 = 1.959963984540054
_RIGHT_OR_WRONG = ("acc", "acc_norm", "exact_match")
_DEFAULT_MAX_TOKENS = 256  # as lm-evaluation-harness's own models


def run(options: Options) -> EvalReport:
    """Run tasks of lm-evaluation-harness. Raises UsageError for a task that it does not know, MissingDependency."""
    started = time.perf_counter()
    if not options.suites:
        raise UsageError("--task lm-eval needs --suite NAME: a task of lm-evaluation-harness")
    harness = _harness()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(options.include) if options.include else None)
    unknown = [name for name in options.suites if not manager.match_tasks([name])]
    if unknown:
        raise UsageError(
            f"--suite {unknown[0]}: lm-evaluation-harness has no such task; --include FOLDER adds your own"
        )
    with Subject.of(options.model, threads=options.threads, activations=options.activations) as subject:
        model = model_class()(
            model=subject.language_model,
            batch_size=options.batch_size,
            max_gen_toks=options.max_tokens,
            seed=options.seed,
        )
        found = harness.simple_evaluate(
            model=model,
            tasks=list(options.suites),
            task_manager=manager,
            limit=options.limit,
            bootstrap_iters=1000,
            random_seed=options.seed,
            numpy_random_seed=options.seed,
            torch_random_seed=options.seed,
            fewshot_random_seed=options.seed,
        )
        scores = tuple(_scores(found))
        return EvalReport(
            task="lm-eval",
            model=subject.name,
            model_sha256=digest.of_files(subject.file.files),
            reference=None,
            scores=scores,
            items=(),
            self_test=None,
            confinement={},
            settings={
                "apr": apr.__version__,
                "lm_eval": _version(),
                "suites": list(options.suites),
                "versions": {name: str(version) for name, version in found["versions"].items()},
                "engine": subject.engine,
                "activations": options.activations,
                "seed": options.seed,
            },
            journal=None,
            n_resumed=0,
            n_cut_bytes=0,
            shards=1,
            seconds=time.perf_counter() - started,
            exit_code=exit_code_of(scores),
        )


def model_class() -> Any:
    """The model that lm-evaluation-harness calls, registered there as "apr". Raises MissingDependency."""
    _harness()
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model

    class Apr(TemplateLM):  # type: ignore[misc]
        """Our engine behind lm-evaluation-harness."""

        def __init__(self, pretrained: str | None = None, **given: Any) -> None:
            super().__init__()
            self.answering = _answering(pretrained, **given)

        @property
        def eot_token_id(self) -> int:
            return self.answering.prefix_id

        @property
        def tokenizer_name(self) -> str:
            return self.answering.model.tokenizer.sha256

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            return self.answering.encode(string, with_bos=add_special_tokens is not False)

        def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            return [self.answering.likelihood(context, continuation) for _, context, continuation in requests]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            return [self.answering.rolling(request.args[0]) for request in requests]

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return self.answering.texts([request.args for request in requests])

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True, **kwargs: Any
        ) -> str:
            return self.answering.rendered(chat_history)

    try:
        return register_model("apr")(Apr)
    except ValueError:  # registered before in this process: the earlier class is the same
        from lm_eval.api.registry import get_model

        return get_model("apr")


def _answering(
    pretrained: str | None,
    *,
    model: LanguageModel | None = None,
    threads: int | str | None = None,
    exact: bool | str = False,
    batch_size: int | str = 8,
    max_gen_toks: int | str = _DEFAULT_MAX_TOKENS,
    seed: int = 0,
    **others: Any,  # device, max_batch_size …: what the harness passes to every model
) -> _Answering:
    """From what the harness gives a model; numbers may come as text."""
    if model is None:
        if pretrained is None:
            raise UsageError("--model apr needs --model_args pretrained=MODEL")
        model = _loaded(str(pretrained), threads=threads, exact=exact)
    size = int(batch_size) if str(batch_size).isdigit() else 8  # "auto"
    return _Answering(model, batch_size=size, max_tokens=int(max_gen_toks), seed=seed)


class _Answering:
    """The questions of lm-evaluation-harness, answered by a language model."""

    def __init__(self, model: LanguageModel, *, batch_size: int, max_tokens: int, seed: int) -> None:
        self.model = model
        self._batch_size, self._max_tokens, self._seed = batch_size, max_tokens, seed

    @property
    def prefix_id(self) -> int:
        """What stands before a text that has nothing before it."""
        tokenizer = self.model.tokenizer
        found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return found if found is not None else min(self.model.stop_token_ids)

    def encode(self, text: str, *, with_bos: bool) -> list[int]:
        """As `apr run --raw`; a rendered conversation as `apr run` does with a prompt that holds control tokens."""
        tokenizer, template = self.model.tokenizer, self.model.template
        holds_control = template is not None and any(
            token and token in text for token in template.control_tokens_rendered()
        )
        ids = tokenizer.encode_control(text) if holds_control else tokenizer.encode(text)
        return list(tokenizer.with_bos(ids)) if with_bos else list(ids)

    def likelihood(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, bool]:
        """The log-probability of a continuation in nats, and whether it is what greedy decoding writes.

        What is too long for the model loses its beginning, as in lm-evaluation-harness's own models.
        """
        ids = [*context, *continuation][-(self.model.session.max_positions + 1) :]
        n = min(len(continuation), len(ids) - 1)
        rows = self._rows(ids[:-1], n)
        target = np.asarray(ids[-n:])
        log_p = log_probabilities(rows)
        return float(log_p[np.arange(n), target].sum()), bool((rows.argmax(axis=1) == target).all())

    def rolling(self, text: str) -> float:
        """The log-probability of a whole text, in windows that do not overlap, each behind the last token of the one before."""
        ids = [self.prefix_id, *self.encode(text, with_bos=False)]
        size = self.model.session.max_positions - 1
        pieces = ((ids[max(0, at - 1) : at] or ids[:1], ids[at : at + size]) for at in range(1, len(ids), size))
        return sum(self.likelihood(before, piece)[0] for before, piece in pieces)

    def texts(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """What the model writes after each context, up to one of its stop strings."""
        runs = [self._run(i, context, dict(asked)) for i, (context, asked) in enumerate(requests)]
        for _ in self.model.run_together(runs, batch_size=self._batch_size):
            pass
        return [run.text for run in runs]

    def rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A conversation through the model's template. Raises UsageError if it has none."""
        if self.model.template is None:
            raise UsageError("the model has no chat template; leave out --apply_chat_template")
        return self.model.template.render(messages).text

    def _run(self, i: int, context: str, asked: dict[str, Any]) -> Any:
        until = asked.get("until") or []
        stop = [until] if isinstance(until, str) else list(until)
        is_drawn = bool(asked.get("do_sample", asked.get("temperature", 0.0) > 0))
        return self.model.run(
            context,
            # "auto" would wrap a plain text: here the harness decides whether the template is applied
            regime="raw",
            control="token" if self._is_rendered(context) else "text",
            max_tokens=int(asked.get("max_gen_toks", asked.get("max_tokens", self._max_tokens))),
            sampling=Sampling(
                temperature=float(asked.get("temperature", 1.0)) if is_drawn else 0.0,
                top_p=float(asked.get("top_p", 1.0)),
                top_k=int(asked.get("top_k", 0)),
                seed=self._seed + i,
            ),
            stop=tuple(text for text in stop if text),
            prompt_id=i,
        )

    def _is_rendered(self, text: str) -> bool:
        template = self.model.template
        return template is not None and any(token and token in text for token in template.control_tokens_rendered())

    def _rows(self, ids: Sequence[int], n: int) -> np.ndarray:
        """float32 [n, vocab_size]: the logits of the last n positions."""
        session = self.model.session
        cache = session.new_cache()
        if len(ids) > n:  # what only is context needs no logits
            session.forward([Span(np.asarray(ids[:-n], dtype=np.int64), cache)])
        return session.forward([Span(np.asarray(ids[-n:], dtype=np.int64), cache)], rows="all")


def _scores(found: Mapping[str, Any]) -> Iterator[Score]:
    counted = found.get("n-samples", {})
    for name, figures in found["results"].items():
        n = counted.get(name, {}).get("effective", 0)
        n_all = counted.get(name, {}).get("original", n)
        for key, value in figures.items():
            metric, comma, way = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            interval, method = _interval(metric, value, n, figures.get(f"{metric}_stderr,{way}"))
            yield Score(
                name=f"{name} {metric}" + (f" ({way})" if way != "none" else ""),
                regime=None,
                value=float(value),
                interval=interval,
                method=method,
                n=n,
                n_all=n_all,
                of="questions",
                n_passed=None,
            )


def _interval(metric: str, value: float, n: int, error: Any) -> tuple[tuple[float, float] | None, str]:
    """Wilson's where each question is right or wrong, else 1.96 of the standard errors that the harness gives."""
    if metric in _RIGHT_OR_WRONG and n and math.isclose(value * n, round(value * n), abs_tol=1e-6):
        return wilson(round(value * n), n), "wilson"
    if isinstance(error, int | float) and math.isfinite(error):
        return (value - _Z95 * error, value + _Z95 * error), "standard error"
    return None, ""


def _loaded(reference: str, *, threads: int | str | None, exact: bool | str) -> LanguageModel:
    activations = "float32" if str(exact).lower() in ("true", "1") else "int8"
    return Subject.of(reference, threads=int(threads) if threads else None, activations=activations).language_model


def _harness() -> Any:
    try:
        import lm_eval
    except ImportError as exc:
        raise MissingDependency("lm-eval", extra="lm-eval") from exc
    return lm_eval


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")


def main() -> None:
    """The command line of lm-evaluation-harness, with the model `apr` known."""
    model_class()
    from lm_eval.__main__ import cli_evaluate

    sys.argv[0] = "lm_eval"
    cli_evaluate()


if __name__ == "__main__":
    main()
