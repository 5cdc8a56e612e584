"""Results as text for a person. Whatever comes from a model file is shown with its control characters made visible."""

from __future__ import annotations

import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from apr.reports._style import paint
from apr.reports._table import bar, count, facts, size, table, terminal_columns

if TYPE_CHECKING:
    from pathlib import Path

    from apr.convert.imatrix import Imatrix
    from apr.convert.transcode import Conversion
    from apr.engines._generate import FinishReason
    from apr.engines._prompt import Prompt
    from apr.engines._record import Timings
    from apr.hub import Alias, CachedModel, Pulled
    from apr.models._config import ModelConfig
    from apr.models._inspection import Inspection, TensorTable

_FINISHES: dict[FinishReason, str] = {
    "eos": "ended by the model",
    "stop_string": "ended at a stop text",
    "length": "stopped by --max-tokens",
    "context_full": "stopped, the context is full",
    "interrupted": "interrupted",
}
_PROMISED = {
    "alias": ", as the alias promises",
    "hub": ", as the hub promises",
    "index": ", as the index promises",
    "reference": ", as the reference promises",
    "none": "",
}
_BAR_FROM_COLUMNS = 64
_BIDI = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """Text with control, formatting and lone surrogate characters escaped; line breaks too. For names and metadata."""
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def safe_for_terminal(text: str) -> str:
    """Generated text with what could steer a terminal escaped; line breaks, tabs and emoji joiners stay."""
    return "".join(
        _escaped(c) if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or c in _BIDI else c for c in text
    )


def template_line(prompt: Prompt) -> str:
    """What was done about the chat template, in one line for standard error."""
    said = {
        "applied": "chat template applied (--raw turns it off)",
        "raw": f"raw prompt: {prompt.reason}",
        "pre-formatted": f"prompt sent as it is (--chat wraps it): {prompt.reason}",
    }[prompt.decision]
    return _aside(f"{said}; {_plural(len(prompt.token_ids), 'prompt token')}")


def speed_line(finish: FinishReason, n_tokens: int, timings: Timings) -> str:
    """Counts and rates of a generation, in one line for standard error."""
    parts = [f"{_plural(n_tokens, 'token')}, {_FINISHES[finish]}"]
    rates = [("decode", timings.decode_tok_per_s), ("prefill", timings.prefill_tok_per_s)]
    parts += [f"{name} {rate:.1f} tok/s" for name, rate in rates if rate]
    return _aside("; ".join([*parts, f"load {timings.load_s:.2f} s"]))


def problem(message: str) -> str:
    """An error, for standard error. Further lines are indented, so that nothing quoted can pose as a line of ours."""
    first, *more = safe_for_terminal(message).split("\n")
    return "\n".join([paint("apr: ", "red", stream=sys.stderr) + first, *(f"     {line}" for line in more)])


def pulled(result: Pulled) -> str:
    """What `apr pull` did."""
    done = "already here" if result.was_cached else f"pulled in {result.seconds:.1f} s"
    rows = [
        ("path", visible(str(result.path))),
        ("size", size(result.size_bytes)),
        ("SHA-256", f"{result.sha256}{_PROMISED[result.promised_by]}"),
    ]
    if result.source != result.reference:
        rows.append(("from", visible(_first_part(result.source))))
    rows += [("note", visible(note)) for note in result.notes]
    rows.append(("next", f'apr run {_quoted(result.reference)} "Hello"'))
    return f"{paint(visible(result.reference), 'bold')}: {done}\n{facts(rows)}"


def model_list(cached: Sequence[CachedModel], aliases: Mapping[str, Alias], folder: Path) -> str:
    """The cache, then what could be pulled."""
    parts = []
    if cached:
        rows = [(visible(m.reference), size(m.size_bytes), m.sha256[:12], m.last_used[:10]) for m in cached]
        parts.append(table(("MODEL", "SIZE", "SHA-256", "LAST USED"), rows, right=(1,)))
        total = size(sum(m.size_bytes for m in cached))
        parts[-1] += f"\n\n{_plural(len(cached), 'model')}, {total}, in {visible(str(folder))}"
    else:
        parts.append("no model is here yet; next: apr pull smollm2")
    here = {m.reference for m in cached}
    rest = [(a.name, size(a.size_bytes), a.license, a.description) for a in aliases.values() if a.name not in here]
    if rest:
        parts.append(table(("CAN BE PULLED", "SIZE", "LICENCE", "WHAT"), rest, right=(1,)))
    return "\n\n".join(parts)


def removed(model: CachedModel) -> str:
    """What `apr rm` did."""
    return f"removed {visible(model.reference)}; {size(model.size_bytes)} are free again"


def inspection(result: Inspection) -> str:
    """What `apr inspect` found."""
    rows = [
        ("format", f"{result.format} {result.format_version}".rstrip() + f", {size(result.size_bytes)}"),
        ("name", result.name),
        ("licence", result.license),
        ("architecture", result.architecture),
        ("parameters", f"{count(result.n_parameters)} in {_plural(result.n_tensors, 'tensor')}"),
        *(_config_rows(result.config) if result.config is not None else ()),
        ("tokenizer", result.tokenizer),
        ("chat template", result.chat_template),
    ]
    lines = [paint(visible(str(result.path)), "bold"), facts([(name, visible(value)) for name, value in rows if value])]
    if result.dtypes:
        lines += ["", _shares(result)]
    if result.warnings:
        lines += ["", *(f"{paint('warning:', 'yellow')} {visible(message)}" for _, message in result.warnings)]
    if result.metadata is not None:
        lines += ["", *(f"{visible(key)} = {visible(str(value))}" for key, value in result.metadata.items())]
    return "\n".join(lines)


def tensors(result: TensorTable, *, containing: str = "") -> str:
    """The rows of `apr tensors`."""
    if not result.tensors:
        asked = f" with {visible(containing)!r} in its name" if containing else ""
        return f"no tensor{asked}; {visible(str(result.path))} has {_plural(result.n_tensors, 'tensor')}"
    header: tuple[str, ...] = ("TENSOR", "TYPE", "SHAPE", "BYTES")
    has_statistics = any(row.statistics for row in result.tensors)
    if has_statistics:
        header += ("MEAN", "STD", "MIN", "MAX", "NAN", "INF")
    rows = []
    for row in result.tensors:
        cells = [visible(row.name), row.codec, "×".join(map(str, row.shape)) or "scalar", size(row.n_bytes)]
        if row.statistics is not None:
            s = row.statistics
            cells += [f"{v:.4g}" for v in (s.mean, s.std, s.min, s.max)] + [str(s.n_nan), str(s.n_inf)]
        elif has_statistics:
            cells += ["-"] * 6
        rows.append(cells)
    shown = table(header, rows, right=range(3, len(header)))
    n_bytes = sum(row.n_bytes for row in result.tensors)
    return f"{shown}\n\n{len(result.tensors)} of {_plural(result.n_tensors, 'tensor')}, {size(n_bytes)}"


def conversion(result: Conversion) -> str:
    """What `apr convert` did."""
    kept = f"{result.n_kept} of {_plural(result.n_tensors, 'tensor')} kept bit for bit"
    if result.n_recoded:
        kept += f", {result.n_recoded} in another exact form"
    if result.n_quantized:
        codecs = ", ".join(f"{n} {codec}" for codec, n in result.codecs.items())
        kept += f", {result.n_quantized} quantised to {result.quantized_to} ({codecs})"
    if result.n_dequantized:
        kept += f", {result.n_dequantized} dequantised to {result.dequantized_to}"
    head = f"{size(result.n_bytes)}, {result.source_format} → {result.target_format} in {result.seconds:.1f} s"
    rows = [("tensors", kept), *(("checked", visible(sentence)) for sentence in result.checked)]
    rows += [("note", visible(note)) for note in result.notes]
    rows += [("SHA-256", result.target_sha256), ("next", f'apr run {_quoted(result.target)} "Hello"')]
    return f"{paint(visible(result.target), 'bold')}: {head}\n{facts(rows)}"


def imatrix(result: Imatrix) -> str:
    """What `apr imatrix` collected, and what to type next."""
    left = f", {result.n_left} left over" if result.n_left else ""
    rows = [
        (
            "text",
            f"{visible(result.text)}, {result.n_tokens} tokens in {result.n_chunks} chunks of {result.chunk_size}{left}",
        ),
        (
            "next",
            f"apr convert {_quoted(result.model)} -o OUT.gguf --quantize q4_k_m --imatrix {_quoted(str(result.path))}",
        ),
    ]
    head = f"{result.n_entries} matrices in {result.seconds:.1f} s"
    return f"{paint(visible(str(result.path)), 'bold')}: {head}\n{facts(rows)}"


def _config_rows(c: ModelConfig) -> list[tuple[str, str]]:
    window = f", window {c.sliding_window}" if c.sliding_window else ""
    scaling = f", {c.rope_scaling.rope_type} scaling" if c.rope_scaling else ""
    tied = ", head tied to embedding" if c.tie_word_embeddings else ""
    return [
        ("shape", f"{c.num_hidden_layers} layers, hidden {c.hidden_size}, feed-forward {c.intermediate_size}"),
        ("heads", f"{c.num_attention_heads} query, {c.num_key_value_heads} key-value, {c.head_dim} wide"),
        ("context", f"{c.max_position_embeddings} tokens{window}"),
        ("rope", f"theta {c.rope_theta:g}{scaling}"),
        ("norm", f"rms, eps {c.rms_norm_eps:g}"),
        ("vocabulary", f"{c.vocab_size} rows{tied}"),
    ]


def _shares(result: Inspection) -> str:
    header: tuple[str, ...] = ("TYPE", "TENSORS", "BYTES", "SHARE")
    rows = []
    for d in result.dtypes:
        share = d.n_bytes / max(1, result.size_bytes)
        rows.append([d.codec, str(d.n_tensors), size(d.n_bytes), f"{share:.1%}"])
        if (terminal_columns() or 0) >= _BAR_FROM_COLUMNS:
            rows[-1].append(bar(share))
    return table((*header, *([""] if len(rows[0]) > len(header) else [])), rows, right=(1, 2, 3))


def written_line(path: Path, *, what: str = "report") -> str:
    """Where something went, in one line for standard error."""
    return _aside(f"{what} written to {path}")


def _aside(sentence: str) -> str:
    return paint(f"apr: {visible(sentence)}", "dim", stream=sys.stderr)


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _quoted(reference: str) -> str:
    """A reference as a shell takes it, if that can be shown at all."""
    return visible(shlex.quote(reference))


def _first_part(source: str) -> str:
    first, *more = source.split("+pypi://")
    return f"{first} and {_plural(len(more), 'more wheel')}" if more else first


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
