"""`apr eval`: scores of a model, with intervals."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import click

from apr import _folder
from apr.cli._options import complete_subject, exact_option, json_option, subject_argument, threads_option
from apr.errors import UsageError

_TASKS = "apr.evals"
_FILE = click.Path(dir_okay=False, path_type=Path)
# of `_options.Options`: what every task knows
_ALWAYS = {"model", "task", "threads", "activations", "limit", "seed", "as_json"}


@click.command(short_help="Scores of a model, with intervals.")
@subject_argument
@click.option(
    "--task",
    "-t",
    required=True,
    metavar="TASK",
    help=f"One of {', '.join(_folder.names(_TASKS))}, or a FILE.jsonl of questions with their answers.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N problems, questions or chunks.")
@click.option("--regime", "regimes", multiple=True, type=click.Choice(["raw", "chat"]), help="Only this prompt regime.")
@click.option("--samples", type=click.IntRange(1, 1000), help="Answers a problem.  [default: 1]")
@click.option("--temperature", type=click.FloatRange(0.0, 100.0), help="0 is greedy.  [default: 0]")
@click.option("--k", "ks", multiple=True, type=click.IntRange(1), help="Of pass@k; may be repeated.  [default: 1]")
@click.option("--max-tokens", "-n", type=click.IntRange(1), help="Of an answer.  [default: 512]")
@click.option("--batch-size", type=click.IntRange(1, 1024), help="Answers generated together.  [default: 8]")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1, 3600), help="Seconds a program may run.  [default: 10]"
)
@click.option("--memory", "memory_mib", type=click.IntRange(64), help="MiB a program may use.  [default: 1024]")
@click.option("--text", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of perplexity: the text.")
@click.option(
    "--reference", shell_complete=complete_subject, help="Of perplexity: the original to hold the model against."
)
@click.option("--window", type=click.IntRange(2), help="Of perplexity: tokens looked at together.  [default: 512]")
@click.option("--stride", type=click.IntRange(1), help="Of perplexity: how many are new each time.  [default: half]")
@click.option("--suite", "suites", multiple=True, help="Of lm-eval: a task of lm-evaluation-harness; may be repeated.")
@click.option(
    "--include", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Of lm-eval: more tasks."
)
@click.option(
    "--out", type=_FILE, metavar="FILE", help="Keep answers and run records here, and go on with what is there."
)
@click.option(
    "--shards", type=click.IntRange(1, 1024), help="Generate in so many processes of a Ray cluster.  [default: 1]"
)
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster.  [default: one on this machine]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn at random.")
@threads_option
@exact_option
@json_option
def command(model: str, task: str, as_json: bool, **given: Any) -> int:
    """Score MODEL. Answers are kept as they come: killed, the same command goes on where it stopped.

    \b
    humaneval    164 Python functions, run against their tests in a sandbox; raw continuation and chat, each its own score
    perplexity   of a text; with --reference, the ratio to the original and the divergence from it
    lm-eval      tasks of lm-evaluation-harness, answered by our engine
    FILE.jsonl   {"id": …, "prompt": … or "messages": …, and "answer", "contains" or "pattern"} on each line

    \b
    apr eval qwen2.5-coder:0.5b --task humaneval --limit 8
    apr eval smollm2 --task humaneval --samples 10 --temperature 0.8 --k 1 --k 10
    apr eval model.gguf --task perplexity --text book.txt --reference original/
    apr eval smollm2 --task questions.jsonl --json
    """
    from apr.cli import _chain
    from apr.evals._options import Options
    from apr.reports import _eval, json

    module = _task(task)
    chosen = _chosen(task, module, given)
    _check_model(model)
    if module.__name__.endswith("_questions"):
        chosen["questions"] = Path(task)
    _chain.fetch(model, *([chosen["reference"]] if "reference" in chosen else []))
    try:
        with _chain.testing("evaluating") as progress:
            report = module.run(Options(model=model, progress=progress, **chosen))
    except KeyboardInterrupt:
        click.echo(_eval.interrupted_line(task), err=True)
        raise
    click.echo(json.dumps(report) if as_json else _eval.evaluation(report))
    if report.journal is not None:
        click.echo(_eval.kept_line(report), err=True)
    return int(report.exit_code)


def _task(name: str) -> ModuleType:
    """The file of a task. Raises UsageError, listing the tasks, for a name that is neither one nor a file."""
    known = _folder.names(_TASKS)
    if name.replace("_", "-") in known:
        return _folder.load(_TASKS, name)
    if Path(name).is_file():
        from apr.evals import _questions

        return _questions
    raise UsageError(f"--task {name}: no such task and no such file; tasks: {', '.join(known)}, or a FILE.jsonl")


def _chosen(task: str, module: ModuleType, given: dict[str, Any]) -> dict[str, Any]:
    """What was given on the command line. Raises UsageError for an option that means nothing to the task."""
    chosen = {name: value for name, value in given.items() if value is not None and value != ()}
    flags = {param.name: param.opts[-1] for param in click.get_current_context().command.params}
    for name in chosen:
        if name not in module.OPTIONS and name not in _ALWAYS:
            raise UsageError(f"{flags[name]} means nothing to --task {task}; leave it out")
    return chosen


def _check_model(model: str) -> None:
    from apr.engines._subject import parse

    if parse(model).engine == "openai":
        raise UsageError(f"{model} is an endpoint; give a model file, whose every token can be recorded")
