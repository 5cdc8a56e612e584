"""`apr bench`: how fast does a model run here, and how near is that to what the memory allows?"""

from __future__ import annotations

from pathlib import Path

import click

from apr import _folder
from apr.cli._options import json_option, subject_argument
from apr.errors import UsageError

# "openai" is behind a network, and what it runs on is not this machine; "fake" is no model
_PEERS = [name for name in _folder.names("apr.engines") if name not in ("openai", "fake")]


@click.command(short_help="How fast does a model run here?")
@subject_argument
@click.option(
    "--vs",
    multiple=True,
    type=click.Choice(_PEERS),
    metavar="ENGINE",
    help=f"Compare with this engine ({', '.join(_PEERS)}), in turns; may be repeated.",
)
@click.option(
    "--prompt-tokens",
    multiple=True,
    type=click.IntRange(min=1),
    default=(32, 128, 512),
    show_default=True,
    metavar="N",
    help="Length of the prompt; may be repeated.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(min=2),
    default=32,
    show_default=True,
    metavar="N",
    help="Tokens written after each prompt.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Threads of the arithmetic; may be repeated. [default: 1, and all cores]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    metavar="N",
    help="Rounds; six are the fewest that give a 95 % interval.",
)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the speeds as an SVG picture too.",
)
@json_option
def command(
    model: str,
    vs: tuple[str, ...],
    prompt_tokens: tuple[int, ...],
    new_tokens: int,
    threads: tuple[int, ...],
    repeats: int,
    svg: Path | None,
    as_json: bool,
) -> int:
    """Measure MODEL: prefill and decode in tokens a second, time to first token, loading, memory, and the share of the
    machine's read bandwidth that decoding reaches, which is measured in the same rounds.

    Nothing is timed before it is proved: our engine must write what `apr run` writes, at any number of threads, and every
    engine's logits must be as near to exact arithmetic as its precision lets them. An engine that computes something else
    is not compared (exit status 5); if it is ours, nothing is timed at all (exit status 1).

    Figures are medians over the rounds, with least and most. Engines take turns within each round; a ratio is the median
    of the rounds' ratios.

    \b
    apr bench smollm2
    apr bench model.gguf --vs llama-cpp --svg speed.svg
    apr bench model.gguf --prompt-tokens 64 --threads 2 --repeats 10 --json
    """
    from apr import hub
    from apr.bench import measure
    from apr.cli import _chain, _progress
    from apr.engines._subject import parse
    from apr.reports import _bench, _bench_svg, json

    if svg is not None and not svg.parent.is_dir():
        raise UsageError(f"--svg {svg}: {svg.parent} is not a folder; create it first")
    address = parse(model)
    if address.engine == "openai":
        raise UsageError(f"{model} is an endpoint: its speed is another machine's; next: apr parity MODEL {model}")
    with _progress.downloading() as download:
        hub.resolve(address.reference, progress=download)
    settings = measure.Settings(
        prompt_tokens=tuple(sorted(set(prompt_tokens))),
        new_tokens=new_tokens,
        threads=tuple(sorted(set(threads))),
        repeats=repeats,
    )
    with _chain.testing("measuring") as progress:
        report = measure.bench(model, vs=vs, settings=settings, tell=progress or (lambda phase, done: None))
    click.echo(json.dumps(report) if as_json else _bench.bench(report))
    return _chain.written(report, (svg, _bench_svg.save), option="--svg", what="picture")
