"""Results as text for a person. Whatever comes from a model file is shown with its control characters made visible."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from apr.reports._table import bar, count, size, table

if TYPE_CHECKING:
    from apr.convert.transcode import Conversion
    from apr.engines._generate import FinishReason
    from apr.engines._prompt import Prompt
    from apr.engines._record import Timings
    from apr.hub import Alias, CachedModel, Pulled
    from apr.models._inspection import Inspection, TensorTable
    from apr.qa.gate import Finding, GateResult, Report

_MARKS = {"pass": "✓", "fail": "✗", "skip": "-", "undecided": "?", "error": "!"}
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
    """What was done about the chat template, in one line."""
    said = {
        "applied": "chat template applied (--raw turns it off)",
        "raw": "raw prompt, no chat template",
        "pre-formatted": "prompt sent as it is (--chat wraps it)",
    }[prompt.decision]
    return visible(f"apr: {said}: {prompt.reason}; {len(prompt.token_ids)} tokens")


def speed_line(finish: FinishReason, n_tokens: int, timings: Timings) -> str:
    """Counts and rates of a generation, in one line."""
    return (
        f"apr: {n_tokens} tokens ({finish}); decode {timings.decode_tok_per_s:.1f} tok/s, "
        f"prefill {timings.prefill_tok_per_s:.1f} tok/s, load {timings.load_s:.2f} s"
    )


def pulled(result: Pulled) -> str:
    """What `apr pull` did."""
    done = "already here" if result.was_cached else f"pulled from {result.source} in {result.seconds:.1f} s"
    return visible(f"{result.reference}: {done}") + (
        f"\n  {visible(str(result.path))}\n  {size(result.size_bytes)}, SHA-256 {result.sha256}"
        f'\n  next: apr run {visible(result.reference)} --prompt "Hello"'
    )


def model_list(cached: Sequence[CachedModel], aliases: Mapping[str, Alias]) -> str:
    """The cache, then what could be pulled."""
    parts = []
    if cached:
        rows = [(visible(m.reference), size(m.size_bytes), m.sha256[:12], m.last_used[:10]) for m in cached]
        parts.append(table(("MODEL", "SIZE", "SHA-256", "LAST USED"), rows, right=(1,)))
    else:
        parts.append("no model is here yet; next: apr pull smollm2")
    here = {m.reference for m in cached}
    rest = [(a.name, size(a.size_bytes), a.license, a.description) for a in aliases.values() if a.name not in here]
    if rest:
        parts.append(table(("CAN BE PULLED", "SIZE", "LICENCE", "WHAT"), rest, right=(1,)))
    return "\n\n".join(parts)


def removed(model: CachedModel) -> str:
    """What `apr rm` did."""
    return f"removed {visible(model.reference)} ({size(model.size_bytes)})"


def inspection(result: Inspection) -> str:
    """What `apr inspect` found."""
    lines = [
        f"{visible(str(result.path))}",
        f"  format        {result.format} {result.format_version}, {size(result.size_bytes)}",
    ]
    facts = [("name", result.name), ("licence", result.license), ("architecture", result.architecture)]
    facts.append(("parameters", f"{count(result.n_parameters)} in {result.n_tensors} tensors"))
    if result.config is not None:
        c = result.config
        shape = f"{c.num_hidden_layers} layers, hidden {c.hidden_size}, feed-forward {c.intermediate_size}"
        heads = f"{c.num_attention_heads} query, {c.num_key_value_heads} key-value, {c.head_dim} wide"
        window = f", window {c.sliding_window}" if c.sliding_window else ""
        scaling = f", {c.rope_scaling.rope_type} scaling" if c.rope_scaling else ""
        facts += [("shape", shape), ("heads", heads), ("context", f"{c.max_position_embeddings} tokens{window}")]
        facts.append(("rope", f"theta {c.rope_theta:g}{scaling}"))
        facts.append(("norm", f"rms, eps {c.rms_norm_eps:g}"))
        facts.append(
            ("vocabulary", f"{c.vocab_size} rows{', head tied to embedding' if c.tie_word_embeddings else ''}")
        )
    facts += [
        (name, value)
        for name, value in (("tokenizer", result.tokenizer), ("chat template", result.chat_template))
        if value
    ]
    lines += [f"  {name:<13} {visible(value)}" for name, value in facts if value]
    lines.append("")
    rows = [
        (d.codec, str(d.n_tensors), size(d.n_bytes), bar(d.n_bytes / max(1, result.size_bytes))) for d in result.dtypes
    ]
    lines.append(table(("TYPE", "TENSORS", "BYTES", "SHARE OF FILE"), rows, right=(1, 2)))
    lines += [f"warning: {visible(message)}" for _, message in result.warnings]
    if result.metadata is not None:
        lines.append("")
        lines += [f"{visible(key)} = {visible(str(value))}" for key, value in result.metadata.items()]
    return "\n".join(lines)


def tensors(result: TensorTable) -> str:
    """The rows of `apr tensors`."""
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
    shown = f"{len(result.tensors)} of {result.n_tensors} tensors"
    return table(header, rows, right=range(3, len(header))) + f"\n{shown}"


def validation(report: Report) -> str:
    """Gates and verdict of `apr validate`."""
    lines = [visible(report.subject)]
    for result in report.gates:
        lines.append(f"  {_MARKS[result.status]} {result.status:<9} {result.id:<16} {visible(result.message)}")
        lines += [f"      {f.status}: {visible(f.message)}" for f in _worth_showing(result)]
    lines.append(f"{report.verdict}: " + ", ".join(f"{n} {status}" for status, n in report.counts.items() if n))
    return "\n".join(lines)


def conversion(result: Conversion) -> str:
    """What `apr convert` did."""
    kept = f"{result.n_kept} of {result.n_tensors} tensors kept bit for bit"
    if result.n_dequantized:
        kept += f", {result.n_dequantized} dequantised to {result.dequantized_to}"
    lines = [
        f"{visible(result.target)}: {size(result.n_bytes)}, {result.source_format} → {result.target_format} in {result.seconds:.1f} s"
    ]
    lines.append(f"  {kept}")
    lines += [f"  ✓ {visible(sentence)}" for sentence in result.checked]
    lines += [f"  note: {visible(note)}" for note in result.notes]
    lines.append(f"  SHA-256 {result.target_sha256}")
    lines.append(f'  next: apr run {visible(result.target)} --prompt "Hello"')
    return "\n".join(lines)


def _worth_showing(result: GateResult) -> list[Finding]:
    return [finding for finding in result.findings if finding.status != "pass"][:10]


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
