"""Defects planted in the real models, each with the gate that must fail of it; and healthy models that no gate may fail.

Files are operated on as `_patient.py` opens them; an engine is ours with one fault, wrapped as in `_engines.py`.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apr.engines._base import Rows, Session
from apr.engines._subject import Subject
from apr.models._decoder import Span, Tap, no_tap
from apr.qa import gate
from apr.qa._judged import Judged
from mutants import healthy, plant_quantization, plant_template
from mutants._engines import Wrapped, loader
from mutants._patient import Patient, open_patient
from mutants._patient_gguf import GgufPatient
from mutants.mutant import Edit, Healthy, Ward

SMOL, QWEN = "smollm2", "qwen2.5-coder:0.5b"
_SOUND = "healthy"
_DOWN, _UP, _O = (f"model.layers.{{}}.{m}_proj.weight" for m in ("mlp.down", "mlp.up", "self_attn.o"))
Make = Callable[[Ward, str], Judged]


@dataclass(frozen=True)
class GateCase:
    """One model under judgement, and what must come of it.

    gate:     that must fail; "healthy" where none may
    codes:    one of which its failing findings must have
    profile:  that is run, whole
    """

    gate: str
    name: str
    codes: frozenset[str]
    make: Make
    profile: str = "smoke"

    @property
    def id(self) -> str:
        """gate.name"""
        return f"{self.gate}.{self.name}"

    @property
    def is_healthy(self) -> bool:
        """Whether no gate may fail."""
        return self.gate == _SOUND


def defects() -> list[GateCase]:
    """At least one for each gate."""
    return [
        *_of_the_file(),
        *_of_weights(),
        *_of_metadata(),
        *_of_language(),
        *_of_behaviour(),
        *_of_engines(),
        *_of_history(),
    ]


def _of_the_file() -> list[GateCase]:
    return [
        GateCase("file_structure", "apr_byte_flipped", _codes("checksum-mismatch"), _damaged(SMOL, ".apr", _flip_last_byte)),
        GateCase("format_parity", "template_changed", _codes("template-text"), _edited(plant_template._replace("<|im_start|>", "<|start|>"), against=True)),
        GateCase("format_parity", "eps", _codes("metadata-value"), _edited(_set("rms_norm_eps", 1e-6), against=True)),
        GateCase("format_parity", "block_of_noise", _codes("weights-quantization", "weights-unexplained"), _edited(_blocks(_DOWN.format(11), plant_quantization._noise_in_block), against=True), "release"),
    ]  # fmt: skip


def _of_weights() -> list[GateCase]:
    return [
        GateCase("tensor_finite", "nan_scale", _codes("non-finite"), _edited(_blocks(_DOWN.format(3), plant_quantization._nan_scale))),
        GateCase("tensor_contract", "norm_missing", _codes("missing"), _edited(lambda p: p.remove("model.layers.5.input_layernorm.weight"))),
        GateCase("tensor_contract", "bias_missing", _codes("missing", "bias-missing"), _edited(lambda p: p.remove("model.layers.11.self_attn.q_proj.bias"), QWEN)),
        GateCase("tensor_contract", "layer_written_twice", _codes("duplicate"), _edited(_copied(_DOWN.format(4), _DOWN.format(5)))),
        GateCase("tensor_contract", "transposed", _codes("shape"), _edited(lambda p: p.change("model.layers.2.mlp.up_proj.weight", lambda w: w.T))),
        GateCase("tensor_contract", "scaled_by_eight", _codes("size-outlier"), _edited(_blocks(_UP.format(11), plant_quantization._scale_all(8.0)))),
        GateCase("tensor_density", "matrix_zeroed", _codes("zeros"), _edited(_blocks(_O.format(11), plant_quantization._clear_all))),
    ]  # fmt: skip


def _of_metadata() -> list[GateCase]:
    return [
        GateCase("metadata_plausible", "rope_theta", _codes("value"), _edited(_set("rope_theta", 1e6))),
        GateCase("metadata_plausible", "eps", _codes("value"), _edited(_set("rms_norm_eps", 1e-2))),
        GateCase("metadata_plausible", "heads", _codes("value"), _edited(_set("num_attention_heads", 18))),
        GateCase("vocabulary", "entries_swapped", _codes("out-of-order"), _edited(_swapped_entries("Ġthe", "Ġof"))),
        GateCase("vocabulary", "special_is_normal", _codes("ordinary-special"), _edited(_made_normal("<|im_end|>"))),
        GateCase("vocabulary", "pre_renamed", _codes("out-of-order", "pre", "tokenizer-pre"), _edited(_pre("qwen2"))),
    ]  # fmt: skip


def _of_language() -> list[GateCase]:
    return [
        GateCase("stop_tokens", "newline_stops", _codes("extra"), _edited(_stops_at("Ċ"))),
        GateCase("chat_template", "removed", _codes("missing"), _edited(lambda p: p.set_template(None))),
        GateCase("chat_template", "marker_misspelt", _codes("unknown-marker"), _edited(plant_template._replace("<|im_end|>", "<|im_edn|>"))),
        GateCase("chat_template", "content_lost", _codes("message-lost"), _edited(plant_template._replace("message['content']", "'hello'"))),
        GateCase("chat_template", "no_syntax", _codes("template-error", "suspicious"), _edited(plant_template._replace("{% endfor %}", ""))),
        GateCase("chat_template", "written_twice", _codes("double"), _edited(plant_template._twice)),
        GateCase("special_token_injection", "always_parsed", _codes("forged"), _edited(_user_defined("<|im_end|>"))),
        GateCase("tokenizer_roundtrip", "digit_lost", _codes("lost"), _edited(_renamed("7", "<lost>"))),
    ]  # fmt: skip


def _of_behaviour() -> list[GateCase]:
    """Files that are sound to look at, and models that are not what they were."""
    both = [(f"model.layers.{i}.mlp.gate_proj.weight", f"model.layers.{i}.mlp.up_proj.weight") for i in range(30)]
    wrong = _codes("wrong-answers", "too-few-admitted")
    return [
        GateCase("golden_output", "o_swapped", wrong, _edited(lambda p: p.swap(_O.format(0), _O.format(1)))),
        GateCase("golden_output", "down_swapped", wrong, _edited(lambda p: p.swap(_DOWN.format(5), _DOWN.format(6)))),
        GateCase("golden_output", "rope_theta", wrong, _edited(_set("rope_theta", 100.0))),
        GateCase("golden_output", "heads_not_permuted", wrong, _edited(plant_quantization._undo_permutation(9, 3))),
        # nothing but rounding, twice over; llama.cpp computes the same answers from this file, and they are wrong
        GateCase("golden_output", "rounded_to_q4_0", wrong, _copy(next(p for p in healthy.real() if p.name == "q4_0"))),
        GateCase("golden_output", "never_stops", _codes("never-stops", "template-leak"), _edited(plant_template._replace("<|im_", "<|mi_"))),
        GateCase("degeneration", "gates_and_ups_swapped", _codes("loop", "dead-loop", "repetition", "script-drift"), _edited(lambda p: _swap_all(p, both))),
        GateCase("python_syntax", "o_swapped", _codes("syntax"), _edited(lambda p: p.swap(_O.format(0), _O.format(1)), QWEN)),
        GateCase("long_context", "rope_theta", _codes("rope-theta"), _edited(_set("rope_theta", 10000.0))),
    ]  # fmt: skip


def _of_engines() -> list[GateCase]:
    return [
        GateCase("determinism", "last_question_remembered", _codes("repeat"), _behaving(Remembers)),
        GateCase("determinism", "batch_mixed", _codes("batch"), _behaving(MixesBatch)),
        GateCase("determinism", "cache_slips", _codes("cache"), _behaving(CacheSlips)),
        GateCase("determinism", "threads", _codes("threads"), _behaving(ByThreads)),
        GateCase("long_context", "beginning_forgotten", _codes("lost-early"), _behaving(ForgetsBeginning)),
        GateCase("adversarial_prompts", "crash", _codes("crash"), _behaving(Crashes)),
        GateCase("adversarial_prompts", "nan_in_long_prompts", _codes("not-finite"), _behaving(NanWhenLong)),
        GateCase("throughput", "slow", _codes("far-from-limit"), _behaving(Slow)),
    ]  # fmt: skip


def _of_history() -> list[GateCase]:
    return [
        GateCase("regression", "was_faster", _codes("slower"), _after(_faster)),
        GateCase("regression", "lost", _codes("lost"), _after(lambda report: report, wrap=MixesBatch)),
    ]


def sound() -> list[GateCase]:
    """The real models in every container, and the healthy pairs of `healthy.py`, each beside its original."""
    formats = [(SMOL, ".gguf"), (SMOL, ".apr"), (SMOL, "/"), (QWEN, ".gguf"), (QWEN, ".apr")]
    found = [
        GateCase(_SOUND, f"{alias.partition('-')[0]}{ending.strip('/') or '.safetensors'}.{profile}", frozenset(), _as_is(alias, ending), profile)
        for (alias, ending), profile in itertools.product(formats, ("smoke", "release"))
    ]  # fmt: skip
    copies = [
        p for p in healthy.real() if p.group in ("format", "rounding", "harmless", "template") and p.name != "q4_0"
    ]
    return [*found, *(GateCase(_SOUND, f"{p.group}.{p.name}.{p.variant}", frozenset(), _copy(p)) for p in copies)]


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


# files


def container(ward: Ward, alias: str, ending: str) -> Path:
    """A real model in another container, made by `apr convert` once; what the container cannot hold becomes float16."""
    from apr.convert import convert

    original = ward.healthy(alias, "gguf")
    if ending == ".gguf":
        return original
    made = ward.stock.root / f"{alias.replace(':', '-')}{ending.strip('/')}"
    if not made.exists():
        ward.stock.root.mkdir(parents=True, exist_ok=True)
        convert(original, f"{made}{'/' if ending == '/' else ''}", dequantize="f16")
    return made


def _judged(path: Path, *, reference: Path | None = None, **options: Any) -> Judged:
    subject = Subject(path, activations="int8", **options)
    return Judged(subject, reference=Subject(reference) if reference is not None else None)


def _as_is(alias: str, ending: str) -> Make:
    return lambda ward, name: _judged(container(ward, alias, ending))


def _copy(pair: Healthy) -> Make:
    def make(ward: Ward, name: str) -> Judged:
        made = pair.make(ward, pair)
        paths = made.candidate.path, made.reference.path
        made.candidate.close()
        made.reference.close()
        return _judged(paths[0], reference=paths[1])

    return make


def _edited(edit: Edit, alias: str = SMOL, *, against: bool = False) -> Make:
    """A file that was operated on; `against` gives the gates the healthy one beside it."""

    def make(ward: Ward, name: str) -> Judged:
        original = ward.healthy(alias, "gguf")
        patient = open_patient(original)
        edit(patient)
        return _judged(patient.save(ward.folder(name)), reference=original if against else None)

    return make


def _damaged(alias: str, ending: str, edit: Callable[[Path], None]) -> Make:
    def make(ward: Ward, name: str) -> Judged:
        folder = ward.folder(name)
        folder.mkdir(parents=True)
        path = folder / f"model{ending}"
        shutil.copyfile(container(ward, alias, ending), path)
        edit(path)
        return _judged(path)

    return make


def _flip_last_byte(path: Path) -> None:
    """The last byte of the last tensor; the footer of 16 bytes follows it."""
    with path.open("r+b") as file:
        file.seek(-64, 2)
        (byte,) = file.read(1)
        file.seek(-64, 2)
        file.write(bytes([byte ^ 1]))


def _set(key: str, value: float) -> Edit:
    return lambda patient: patient.set(key, value)


def _blocks(tensor: str, change: plant_quantization.Blocks) -> Edit:
    def edit(patient: Patient) -> None:
        part = patient.part(tensor)
        rows = patient.rows(tensor).reshape(part.shape[0], -1, plant_quantization.LAYOUT[part.kind][0])
        change(rows, part.kind)
        patient.put_rows(tensor, rows)

    return edit


def _copied(source: str, target: str) -> Edit:
    def edit(patient: Patient) -> None:
        one, other = patient.part(source), patient.part(target)
        other.kind, other.shape, other.data = one.kind, one.shape, one.data

    return edit


def _swap_all(patient: Patient, pairs: Sequence[tuple[str, str]]) -> None:
    for first, second in pairs:
        patient.swap(first, second)


def _swapped_entries(first: str, second: str) -> Edit:
    return lambda patient: patient.swap_tokens(patient.token_id(first), patient.token_id(second))


def _made_normal(token: str) -> Edit:
    return lambda patient: patient.make_normal(patient.token_id(token))


def _user_defined(token: str) -> Edit:
    """A control token that is said to be the user's own: every reader finds those in plain text."""

    def edit(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        types = patient.parts.get("tokenizer.ggml.token_type")
        types[patient.token_id(token)] = 4
        patient.parts.set("tokenizer.ggml.token_type", types)

    return edit


def _renamed(token: str, name: str) -> Edit:
    def edit(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        tokens = patient.tokens()
        tokens[tokens.index(token)] = name
        patient.set_tokens(tokens)

    return edit


def _pre(name: str) -> Edit:
    def edit(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        patient.parts.set("tokenizer.ggml.pre", name)

    return edit


def _stops_at(token: str) -> Edit:
    return lambda patient: patient.set_stop_list([patient.token_id(token)])


# engines


def _behaving(wrap: Callable[[Session], Session], alias: str = SMOL) -> Make:
    return lambda ward, name: _judged(ward.healthy(alias, "gguf"), loader=loader(wrap))


class _Moved(Wrapped):
    """A session whose logits are moved where `when` says so."""

    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self.n_passes = 0

    def when(self, spans: Sequence[Span]) -> bool:
        """Whether this pass is wrong."""
        raise NotImplementedError

    def change(self, logits: np.ndarray) -> np.ndarray:
        """Every token's score goes to its neighbour."""
        return np.roll(logits, 1, axis=-1)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """As it is, or moved."""
        is_wrong = self.when(spans)
        logits = self.inner.forward(spans, tap=tap, rows=rows)
        self.n_passes += 1
        return self.change(logits) if is_wrong else logits


class Remembers(_Moved):
    """Every fiftieth pass is wrong, whatever is asked."""

    def when(self, spans: Sequence[Span]) -> bool:
        """By the number of the pass."""
        return self.n_passes % 50 == 49


class MixesBatch(Wrapped):
    """Sequences of a batch get each other's logits."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """In the reverse order."""
        logits = self.inner.forward(spans, tap=tap, rows=rows)
        return logits[::-1].copy() if rows == "last" and len(spans) > 1 else logits


class CacheSlips(Wrapped):
    """A cache that is cut back loses one position too many."""

    def new_cache(self) -> Any:
        """One whose `truncate` is wrong."""
        cache = self.inner.new_cache()
        return _Slipping(cache)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """With the caches that the engine knows."""
        known = [Span(span.token_ids, getattr(span.cache, "kept", span.cache)) for span in spans]
        return self.inner.forward(known, tap=tap, rows=rows)


class _Slipping:
    """A cache whose positions stay counted and are read one place too early."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept
        self._lost = 0

    @property
    def length(self) -> int:
        """As whoever cut it back believes."""
        return int(self.kept.length) + self._lost

    def truncate(self, length: int) -> None:
        """One position is lost whenever something is kept."""
        if 1 < length < self.length:
            self.kept.truncate(length - self._lost - 1)
            self._lost += 1
        elif length < self.length:
            self.kept.truncate(max(0, length - self._lost))
            self._lost = 0 if not length else self._lost


class ByThreads(_Moved):
    """With one thread, every fourth pass is wrong."""

    def when(self, spans: Sequence[Span]) -> bool:
        """By the session's threads."""
        return bool(self.inner.threads == 1 and self.n_passes % 4 == 3)


class ForgetsBeginning(Wrapped):
    """Of a prompt beyond 600 tokens, the first half is read as blanks."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Other ids where they are many."""
        return self.inner.forward([_blanked(span) for span in spans], tap=tap, rows=rows)


def _blanked(span: Span) -> Span:
    n = len(span.token_ids)
    if n < 600:
        return span
    ids = np.array(span.token_ids)
    ids[: n // 2] = ids[0]
    return Span(ids, span.cache)


class Crashes(Wrapped):
    """One token is beyond a table of its own."""

    TOKEN = 34  # of SmolLM2, "$"

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Raises IndexError."""
        if any((np.asarray(span.token_ids) == self.TOKEN).any() for span in spans):
            raise IndexError("index 34 is out of bounds")
        return self.inner.forward(spans, tap=tap, rows=rows)


class NanWhenLong(_Moved):
    """Beyond 100 tokens at once the logits are not finite."""

    def when(self, spans: Sequence[Span]) -> bool:
        """By the length of any."""
        return any(len(span.token_ids) > 100 for span in spans)

    def change(self, logits: np.ndarray) -> np.ndarray:
        """No numbers."""
        return np.full_like(logits, np.nan)


class Slow(Wrapped):
    """A tenth of a second is lost in every pass over one token."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Later."""
        if len(spans) == 1 and len(spans[0].token_ids) == 1:
            time.sleep(0.1)
        return self.inner.forward(spans, tap=tap, rows=rows)


# history


def _after(change: Callable[[dict[str, Any]], dict[str, Any]], *, wrap: Callable[[Session], Session] = Wrapped) -> Make:
    """An earlier report of the same file, changed; then the model is judged with an engine of its own."""

    def make(ward: Ward, name: str) -> Judged:
        path = ward.healthy(SMOL, "gguf")
        with Judged(Subject(path, activations="int8"), profile="smoke") as judged:
            report = gate.run("smoke", judged, only=("determinism", "throughput"))
        previous = change(asdict(report))
        subject = Subject(path, activations="int8", loader=loader(wrap))
        return Judged(subject, previous=previous)

    return make


def _faster(report: Mapping[str, Any]) -> dict[str, Any]:
    """The same machine decoded four times as fast."""
    gates = [dict(one) for one in report["gates"]]
    for one in gates:
        if one["id"] == "throughput":
            one["measure"] = dict(one["measure"]) | {"limit_fraction": 4 * one["measure"]["limit_fraction"]}
            one["interval"] = [4 * bound for bound in one["interval"]]
    return dict(report) | {"gates": gates}
