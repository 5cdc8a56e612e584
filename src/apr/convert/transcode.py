"""Convert a model file into another format, losing nothing, and read the result back before it gets its name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from apr.convert import _items, _jobs, _staging, _target
from apr.convert._hashing import hashing
from apr.convert._quantise import Recipe
from apr.convert._target import Overwrite, Target
from apr.errors import ConversionError, UsageError
from apr.formats import open_model
from apr.formats._base import ModelFile
from apr.hub import digest

SCHEMA = "apr.convert/1"

Report = Callable[[str, int], None]
Measure = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversion would do.

    n_bytes:  of tensors in the target
    codecs:   tensors of the target by encoding
    """

    source_format: str
    target_format: str
    n_tensors: int
    n_kept: int
    n_recoded: int
    n_quantized: int
    n_dequantized: int
    n_bytes: int
    codecs: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    n_tensors:       of the target, without the small ones that GGUF keeps rotary factors in
    n_kept:          byte for byte the source's, up to the order of rows
    n_recoded:       the same values in another exact form (a norm as F32, with or without its offset)
    n_quantized:     in blocks that were made of the source's values
    quantized_to:    the mixture; null if nothing was quantised
    codecs:          tensors of the target by encoding
    n_dequantized:   decoded, because the target has no such blocks and `dequantized_to` was asked for
    n_bytes:         of all files written
    source_sha256:   of the source's weights files; target_sha256: of the target's (`hub.digest.of_files`)
    checked:         what was read back and compared
    notes:           what did not come along, and what is spelled differently
    loss:            what was measured, in the form apr.loss/1; null if nothing was
    """

    schema: str
    source: str
    target: str
    source_format: str
    target_format: str
    n_tensors: int
    n_kept: int
    n_recoded: int
    n_quantized: int
    quantized_to: str | None
    codecs: dict[str, int]
    n_dequantized: int
    dequantized_to: str | None
    n_bytes: int
    source_sha256: str
    target_sha256: str
    checked: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    loss: Mapping[str, Any] | None = None


def plan(source: Path, target: Path | str, *, dequantize: str | None = None, quantize: Recipe | None = None) -> Plan:
    """What `convert` would write. Raises what it raises before it writes, but for a target that exists."""
    _check_dequantize(dequantize)
    aim = _target.parse(target)
    with open_model(source) as file:
        job = _jobs.job_for(file, aim, dequantize=dequantize, recipe=quantize)
        return Plan(
            source_format=file.format,
            target_format=aim.format,
            n_tensors=sum(job.counts.values()),
            n_kept=job.counts["kept"],
            n_recoded=job.counts["recoded"],
            n_quantized=job.counts["quantized"],
            n_dequantized=job.counts["dequantized"],
            n_bytes=job.n_bytes,
            codecs=_counted(job),
            notes=tuple(job.notes),
        )


def convert(
    source: Path,
    target: Path | str,
    *,
    dequantize: str | None = None,
    quantize: Recipe | None = None,
    measure: Measure | None = None,
    overwrite: Overwrite = "refuse",
    progress: Report | None = None,
) -> Conversion:
    """Write the model at `source` to `target`, in the format that the target's ending names.

    target:      `.gguf`, `.apr` or `.safetensors`; a path without an ending, or with a slash behind it, is a safetensors folder
    dequantize:  "f32" (exact), "f16" or "bf16": what tensors become that the target has no type for; the others keep their encoding
    quantize:    how its matrices are quantised: `recipe(…)`
    measure:     looks at the new model before it gets its name, and says what the file shall say of itself; what it raises refuses it
    overwrite:   "replace" lets go what stands at `target`, once the new model is complete and compared
    progress:    called with a phase ("write", "check") and the bytes of each tensor as it is done
    Raises       ConversionError for anything that would be lost, differs when read back, or cannot be written; UsageError for a target that
                 exists, is the source, or has an unknown ending; FormatError, TokenizerError, UnsupportedError for the source.
    An error or an interruption leaves nothing behind.
    """
    started = time.perf_counter()
    _check_dequantize(dequantize)
    aim = _target.parse(target)
    with open_model(source) as file:
        _target.check(aim, _files_of(file), overwrite=overwrite)
        before = _stamps(file)
        source_sha256 = digest.of_files(_weights_of(file))
        job = _jobs.job_for(file, aim, dequantize=dequantize, recipe=quantize, source_sha256=source_sha256)
        _refuse_full_disk(aim, job, n_copies=1 if measure is None else 2)
        try:
            checked, n_bytes, target_sha256 = _write(
                file, job, aim, before, overwrite=overwrite, progress=progress or _silent, measure=measure
            )
        except OSError as exc:
            raise ConversionError(
                f"{aim.path} could not be written: {exc.strerror or exc}; nothing was left behind"
            ) from exc
        n_dequantized = job.counts["dequantized"]
        return Conversion(
            schema=SCHEMA,
            source=str(source),
            target=str(target),
            source_format=file.format,
            target_format=aim.format,
            n_tensors=sum(job.counts.values()),
            n_kept=job.counts["kept"],
            n_recoded=job.counts["recoded"],
            n_quantized=job.counts["quantized"],
            quantized_to=quantize.mixture.name if quantize is not None else None,
            codecs=_counted(job),
            n_dequantized=n_dequantized,
            dequantized_to=dequantize if n_dequantized else None,
            n_bytes=n_bytes,
            source_sha256=source_sha256,
            target_sha256=digest.remember(aim.weights, target_sha256),
            checked=tuple(checked),
            notes=(*job.notes, *_idle(dequantize, n_dequantized, aim)),
            seconds=time.perf_counter() - started,
        )


def _write(
    file: ModelFile,
    job: _jobs.Job,
    aim: Target,
    before: dict[Path, tuple[int, int, int]],
    *,
    overwrite: Overwrite,
    progress: Report,
    measure: Measure | None,
) -> tuple[list[str], int, str]:
    """Write, compare, rename. Returns what was compared, the bytes written, and the SHA-256 of the weights file."""
    writer = import_module(f"apr.formats.{aim.format}")
    with _staging.staging(aim) as staged:
        writer.write(staged.path, job.outgoing(lambda n: progress("write", n)))
        checked, sha256 = _checked(job, staged, lambda n: progress("check", n))
        if measure is not None:
            staged, sha256 = _with_metadata(staged, measure(staged.path))
        if _stamps(file) != before:
            raise ConversionError(
                f"{file.path} changed while it was converted; wait for its writer, then convert again"
            )
        folder = staged.path if staged.is_folder else staged.path.parent
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
        _target.check(aim, _files_of(file), overwrite=overwrite)  # somebody may have come first
        _staging.publish(staged, aim)
    return checked, n_bytes, sha256


def _checked(job: _jobs.Job, staged: Target, progress: _jobs.Progress) -> tuple[list[str], str]:
    """What was compared, and the SHA-256 of the weights file."""
    with hashing(staged.weights) as sha256:
        checked = job.check(staged.path, progress)
    return checked, sha256.result()


def _idle(dequantize: str | None, n_dequantized: int, aim: Target) -> tuple[str, ...]:
    """That an option did nothing."""
    if dequantize is None or n_dequantized:
        return ()
    return (
        f"nothing had to be dequantised: {aim.format} holds every type of the source; --quantize {dequantize} decodes all",
    )


def _with_metadata(staged: Target, extra: Mapping[str, Any]) -> tuple[Target, str]:
    """A copy of a new model that says more of itself, beside it; and its SHA-256."""
    folder = staged.path.parent / "measured"
    folder.mkdir()
    aim = replace(staged, path=folder / staged.path.name)
    with open_model(staged.path) as file:
        job = _jobs.Copy(file, aim, extra=extra)
        import_module(f"apr.formats.{aim.format}").write(aim.path, job.outgoing(lambda _: None))
        _, sha256 = _checked(job, aim, lambda _: None)
    return aim, sha256


def _counted(job: _jobs.Job) -> dict[str, int]:
    codecs = [codec for _, codec, _ in job.specs]
    return {codec: codecs.count(codec) for codec in sorted(set(codecs))}


def _check_dequantize(dequantize: str | None) -> None:
    if dequantize is not None and dequantize not in _items.DEQUANTIZED:
        raise UsageError(f"dequantize is {dequantize!r}, expected one of {', '.join(_items.DEQUANTIZED)}")


def _refuse_full_disk(aim: Target, job: _jobs.Job, *, n_copies: int) -> None:
    """n_copies: of the target that are there at once: a measured file is written again, with what was measured."""
    free, needed = shutil.disk_usage(aim.path.parent).free, job.n_bytes * n_copies
    if free < needed:
        raise ConversionError(
            f"{aim.path}: the tensors take {needed / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB left; make room"
        )


def _weights_of(file: ModelFile) -> list[Path]:
    return sorted({info.path for info in file.tensors.values()}) or list(file.files)


def _files_of(file: ModelFile) -> list[Path]:
    """Every file that the source was read from."""
    weights = _weights_of(file)
    beside = weights[0].parent if weights else file.path
    index = [file.path] if file.path.is_file() else []
    return sorted({*weights, *index, *(beside / name for name in file.documents)})


def _stamps(file: ModelFile) -> dict[Path, tuple[int, int, int]]:
    stats = {path: path.stat() for path in _files_of(file)}
    return {path: (s.st_size, s.st_mtime_ns, s.st_ino) for path, s in stats.items()}


def _silent(phase: str, n_bytes: int) -> None:
    del phase, n_bytes
