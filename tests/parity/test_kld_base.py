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
from apr.errors import BadMagic, BadMetadata, FormatError, LimitExceeded, TrailingBytes, TruncatedFile, UsageError
from apr.models._decoder import Span
from apr.parity import _kld_base
from apr.parity._kld_base import as_json, compare, read

N_CTX, N_CHUNK = 32, 4


def encoded(logits: np.ndarray) -> bytes:
    """A row as perplexity.cpp's `log_softmax(n_vocab, logits, log_prob, tok)` writes it, in float32 like there."""
    logits = logits.astype(np.float32)
    most = logits.max()
    least = np.float32(max(logits.min(), most - np.float32(16)))
    log_sum = np.float32(np.log(np.exp(logits - most).astype(np.float64).sum()))
    scale = np.float32((most - least) / np.float32(65535))
    values = np.zeros(2 * ((len(logits) + 1) // 2), dtype=np.uint16)
    if scale:
        nearest = np.rint(np.float32(1) / scale * (logits - least))
        values[: len(logits)] = np.where(logits > least, nearest, 0)
    return struct.pack("<ff", scale, least - most - log_sum) + values.tobytes()


def written(path: Path, tokens: np.ndarray, logits: Callable[[np.ndarray], np.ndarray], n_vocab: int) -> Path:
    """A base file of `tokens`, int32 [n_chunk, n_ctx]; `logits` gives those of a chunk, [n_ctx, n_vocab]."""
    n_chunk, n_ctx = tokens.shape
    rows = b"".join(encoded(row) for chunk in tokens for row in logits(chunk)[n_ctx // 2 : n_ctx - 1])
    path.write_bytes(b"_logits_" + struct.pack("<Iii", n_ctx, n_vocab, n_chunk) + tokens.astype("<i4").tobytes() + rows)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf")


@pytest.fixture(scope="module")
def base_path(model: Path) -> Path:
    tokens = np.random.default_rng(0).integers(0, 256, (N_CHUNK, N_CTX), dtype=np.int32)
    with Subject(model, threads=1) as subject:
        return written(model.parent / "base.kld", tokens, lambda ids: logits_of(subject, ids), tiny.VOCAB_SIZE)


def logits_of(subject: Subject, ids: np.ndarray) -> np.ndarray:
    return subject.session.forward([Span(ids.astype(np.int64), subject.session.new_cache())], rows="all")


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


def test_figures_are_plain_data(model: Path, base_path: Path) -> None:
    with Subject(model, threads=1) as subject:
        found = as_json(compare(read(base_path), subject, chunks=2))
    assert json.loads(json.dumps(found, allow_nan=False))["n_positions"] == 30


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
    right = _kld_base.rows_of

    def spy(session: object, ids: list[int]) -> np.ndarray:
        fed.append(list(ids))
        return right(session, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(_kld_base, "rows_of", spy)
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
