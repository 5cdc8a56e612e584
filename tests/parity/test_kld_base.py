"""llama.cpp's base files: written here by its formulas, read as hostile input, and compared by its own statistics."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import (
    BadMagic,
    BadMetadata,
    EngineError,
    FormatError,
    LimitExceeded,
    TrailingBytes,
    TruncatedFile,
    UsageError,
)
from apr.models._decoder import Span
from apr.parity import _kld_statistics
from apr.parity._kld_base import read
from apr.parity._kld_statistics import compare, link
from kld_file import logits_of, written

N_CTX, N_CHUNK = 32, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf")


@pytest.fixture(scope="module")
def base_path(model: Path) -> Path:
    tokens = np.random.default_rng(0).integers(0, 256, (N_CHUNK, N_CTX), dtype=np.int32)
    with Subject(model, threads=1) as subject:
        return written(model.parent / "base.kld", tokens, lambda ids: logits_of(subject, ids), tiny.VOCAB_SIZE)


def test_what_was_written_is_read_to_sixteen_bits(model: Path, base_path: Path) -> None:
    base = read(base_path)
    assert (base.n_ctx, base.n_vocab, base.n_chunk, base.n_rows) == (N_CTX, tiny.VOCAB_SIZE, N_CHUNK, 15)
    with Subject(model, threads=1) as subject:
        expected = logits_of(subject, base.tokens[2])[16:31].astype(np.float64)
    expected -= np.log(
        np.exp(expected - expected.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    ) + expected.max(axis=1, keepdims=True)
    assert np.abs(base.chunk(2) - expected).max() < 1.01 * 16 / 65535 / 2


def test_a_model_against_its_own_base_is_at_the_files_floor(model: Path, base_path: Path) -> None:
    with Subject(model, threads=1) as subject:
        found = compare(read(base_path), subject)
    assert abs(found.statistics["Mean    KLD"][0]) < 1e-6
    assert found.is_at_floor
    assert found.statistics["Same top p"] == (100.0, 0.0)
    assert found.n_positions == 60


def test_a_rounded_model_is_far_over_the_floor(model: Path, base_path: Path) -> None:
    rounded = tiny.write(model.parent / "q4_0", "gguf", codec="q4_0")
    with Subject(rounded, threads=1) as subject:
        found = compare(read(base_path), subject)
    assert not found.is_at_floor
    assert found.statistics["Mean    KLD"][0] > 100 * found.floor
    assert found.kl_interval[0] < found.statistics["Mean    KLD"][0] < found.kl_interval[1]


def test_the_statistics_are_llama_cpps_formulas(model: Path, base_path: Path) -> None:
    """perplexity.cpp's loops, written out once more in their own order."""
    base = read(base_path)
    rounded = tiny.write(model.parent / "q8_0", "gguf", codec="q4_0")
    kl, delta, nll, nll_base, same = [], [], [], [], 0
    with Subject(rounded, threads=1) as subject:
        found = compare(base, subject)
        for i in range(N_CHUNK):
            logits = logits_of(subject, base.tokens[i])
            for row in range(base.n_rows):
                z = logits[base.first + row].astype(np.float64)
                token = base.tokens[i][base.first + row + 1]
                total = z.max() + np.log(np.exp(z - z.max()).sum())
                log_p = base.chunk(i)[row].astype(np.float64)
                kl.append(sum(np.exp(p) * (p - x + total) for p, x in zip(log_p, z, strict=True) if p > -16))
                nll.append(total - z[token])
                nll_base.append(-log_p[token])
                delta.append(np.exp(-nll[-1]) - np.exp(-nll_base[-1]))
                same += int(z.argmax() == log_p.argmax())
    n = len(kl)
    expected = {
        "Mean    KLD": np.mean(kl),
        "Maximum KLD": max(kl),
        "Median  KLD": np.median(kl),
        "99.9%   KLD": np.percentile(kl, 99.9),
        "Mean PPL(Q)": np.exp(np.mean(nll)),
        "Mean PPL(base)": np.exp(np.mean(nll_base)),
        "Mean    Δp": 100 * np.mean(delta),
        "RMS Δp": 100 * np.sqrt(np.mean(np.square(delta))),
        "Same top p": 100 * same / n,
    }
    for name, value in expected.items():
        assert found.statistics[name][0] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    spread = np.sqrt((np.mean(np.square(kl)) - np.mean(kl) ** 2) / (n - 1))
    assert found.statistics["Mean    KLD"][1] == pytest.approx(spread)


def test_the_link_says_same_of_the_model_itself(model: Path, base_path: Path) -> None:
    base = read(base_path)
    with Subject(model, threads=1) as subject:
        found = link(base, subject, compare(base, subject, chunks=2))
    assert (found.verdict, found.link) == ("same", "logits")
    assert found.measure["n_positions"] == 30
    json.dumps(found.measure, allow_nan=False)


def test_the_link_calls_drift_neither_the_same_nor_a_defect(model: Path, base_path: Path) -> None:
    base = read(base_path)
    rounded = tiny.write(model.parent / "q8_0", "gguf", codec="q8_0")
    with Subject(rounded, threads=1) as subject:
        found = link(base, subject, compare(base, subject))
    assert found.verdict == "cannot_tell"
    assert "give the original" in found.sentence


def test_the_link_finds_a_defect_that_strikes_in_some_places(model: Path, base_path: Path) -> None:
    base = read(base_path)
    with Subject(model, threads=1) as subject:
        session = subject.session
        right = session.forward

        def wrong(spans: list[Span], **options: object) -> np.ndarray:
            logits = right(spans, **options)  # type: ignore[arg-type]
            if len(logits) > 24 and spans[0].token_ids[1] == base.tokens[3][1]:
                logits[20:28] = logits[20:28, ::-1]
            return logits

        session.forward = wrong  # type: ignore[method-assign,assignment]
        found = link(base, subject, compare(base, subject))
    assert (found.verdict, found.findings[0].cause) == ("different", "weights.quantization")
    assert found.findings[0].where["chunk"] == 3
    assert 20 <= found.findings[0].where["position"] < 28


def test_logits_that_are_not_finite_are_a_finding(model: Path, base_path: Path) -> None:
    base = read(base_path)
    with Subject(model, threads=1) as subject:
        right = subject.session.forward

        def wrong(spans: list[Span], **options: object) -> np.ndarray:
            if len(spans[0].token_ids) > 20:
                raise EngineError("not finite")
            return right(spans, **options)  # type: ignore[arg-type]

        subject.session.forward = wrong  # type: ignore[method-assign,assignment]
        found = link(base, subject, compare(base, subject))
    assert (found.verdict, found.findings[0].cause) == ("different", "engine.op")
    assert found.measure["n_nonfinite"] == N_CHUNK * 11


def test_another_vocabulary_is_refused_and_not_only_logged(model: Path, base_path: Path) -> None:
    other = tiny.write(model.parent / "larger", "gguf", tiny.config("llama", vocab_size=384))
    with Subject(other, threads=1) as subject, pytest.raises(UsageError, match="not the same vocabulary"):
        compare(read(base_path), subject)


def test_an_odd_vocabulary_is_padded_to_an_even_row(tmp_path: Path) -> None:
    tokens = np.zeros((1, 8), dtype=np.int32)
    logits = np.random.default_rng(0).standard_normal((8, 7)).astype(np.float32)
    base = read(written(tmp_path / "odd", tokens, lambda ids: logits, 7))
    assert base.chunk(0).shape == (3, 7)
    assert np.allclose(np.exp(base.chunk(0)).sum(axis=1), 1, atol=1e-3)


def test_what_lies_sixteen_logits_down_is_the_files_own_error(tmp_path: Path) -> None:
    logits = np.full((8, 5000), -16.5, dtype=np.float32)
    logits[:, 0] = 0
    base = read(written(tmp_path / "deep", np.zeros((1, 8), dtype=np.int32), lambda ids: logits, 5000))
    # 5000 tokens of e^-16.5 each
    assert base.errors(0) == pytest.approx([3.4e-4] * 3, rel=0.05)


def test_equal_logits_have_no_scale_and_are_read(tmp_path: Path) -> None:
    base = read(written(tmp_path / "flat", np.zeros((1, 8), dtype=np.int32), lambda ids: np.ones((8, 6)), 6))
    assert np.allclose(base.chunk(0), -np.log(6))


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        (BadMagic, lambda raw: b"_lagits_" + raw[8:]),
        (BadMagic, lambda raw: b""),
        (TruncatedFile, lambda raw: raw[:14]),
        (TruncatedFile, lambda raw: raw[:-1]),
        (TruncatedFile, lambda raw: raw[:60]),
        (TrailingBytes, lambda raw: raw + b"\0"),
        (LimitExceeded, lambda raw: raw[:8] + struct.pack("<i", 0) + raw[12:]),
        (LimitExceeded, lambda raw: raw[:8] + struct.pack("<i", -5) + raw[12:]),
        (LimitExceeded, lambda raw: raw[:12] + struct.pack("<i", 1 << 30) + raw[16:]),
        (LimitExceeded, lambda raw: raw[:16] + struct.pack("<i", -1) + raw[20:]),
        (TruncatedFile, lambda raw: raw[:16] + struct.pack("<i", 1 << 24) + raw[20:]),
        (BadMetadata, lambda raw: raw[:20] + struct.pack("<i", 320) + raw[24:]),
        (BadMetadata, lambda raw: raw[:20] + struct.pack("<i", -1) + raw[24:]),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    base_path: Path, tmp_path: Path, error: type[FormatError], damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(damage(base_path.read_bytes()))
    with pytest.raises(error):
        read(path)


@pytest.mark.parametrize("head", [(np.nan, 0.0), (-1.0, -5.0), (0.1, 5.0), (3e38, -1.0), (1e-4, np.inf)])
def test_a_row_that_holds_no_log_probabilities_is_refused(
    base_path: Path, tmp_path: Path, head: tuple[float, float]
) -> None:
    raw = bytearray(base_path.read_bytes())
    at = 20 + 4 * N_CTX * N_CHUNK
    raw[at : at + 8] = struct.pack("<ff", *head)
    (tmp_path / "row").write_bytes(bytes(raw))
    with pytest.raises(BadMetadata):
        read(tmp_path / "row").chunk(0)


def test_chunks_begin_with_the_models_beginning_of_text(
    model: Path, base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[list[int]] = []
    right = _kld_statistics.rows_of

    def spy(session: object, ids: list[int]) -> np.ndarray:
        fed.append(list(ids))
        return right(session, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(_kld_statistics, "rows_of", spy)
    with Subject(model, threads=1) as subject:
        object.__setattr__(subject.spec, "add_bos", True)
        object.__setattr__(subject.spec, "bos_token_id", 257)
        compare(read(base_path), subject, chunks=1)
    assert fed[0][0] == 257


@pytest.mark.real
@pytest.mark.parity
def test_a_base_of_llama_cpps_own_logits_puts_our_exact_engine_where_8_bits_do(
    real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    path = real_model("smollm2")
    with Subject(path, "llama-cpp", threads=1) as other, Subject(path, threads=1) as ours:
        text = (Path(tiny.__file__).read_text(encoding="utf-8"))[:600]
        tokens = np.array(ours.tokenizer.encode(text)[:96], dtype=np.int32).reshape(2, 48)
        base = read(written(tmp_path / "llama.kld", tokens, lambda ids: logits_of(other, ids), ours.config.vocab_size))
        itself, exact = compare(base, other), compare(base, ours)
    assert itself.is_at_floor
    assert itself.statistics["Same top p"][0] == 100.0
    assert not exact.is_at_floor
    # the file's weights are the same: what is left is llama.cpp's 8-bit activations
    assert exact.statistics["Mean    KLD"][0] < 0.03
    assert exact.statistics["Same top p"][0] > 80.0
