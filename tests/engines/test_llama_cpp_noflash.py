"""llama.cpp's plain attention: its own graph says that the fused kernel is not in it, and the logits are those of our own engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest

import tiny
from apr.engines import llama_cpp, llama_cpp_noflash
from apr.engines._llama_session import LlamaSession
from apr.errors import UnsupportedError
from engines.tapping import LONG_IDS, all_rows, checkpoint, distance, numpy_session

pytestmark = pytest.mark.parity

F16_CACHE_BOUND = 5e-3  # keys and values rounded to float16


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("noflash"), "gguf", tiny.config("llama"))


def names(session: LlamaSession) -> set[str]:
    assert session.slots
    return {node.name.partition("-")[0] for node in session._nodes}


def test_the_graph_has_scores_of_its_own_in_place_of_the_fused_kernel(llama: Path) -> None:
    plain = llama_cpp_noflash.load(checkpoint(llama), threads=1)
    fused = llama_cpp.load(checkpoint(llama), threads=1)
    assert "kq_soft_max" in names(plain) and "kq_soft_max" not in names(fused)
    assert (plain.engine, fused.engine) == ("llama-cpp-noflash", "llama-cpp")
    assert plain.kv_cache_dtype == "float16"


def test_the_logits_are_those_of_our_own_engine(llama: Path) -> None:
    plain = all_rows(llama_cpp_noflash.load(checkpoint(llama), threads=1), LONG_IDS)
    fused = all_rows(llama_cpp.load(checkpoint(llama), threads=1), LONG_IDS)
    assert distance(plain, all_rows(numpy_session(llama), LONG_IDS)) < F16_CACHE_BOUND
    assert (plain != fused).any(), "another order of sums shows"


def test_a_build_that_hides_the_switch_is_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.engines._llama_library.library", _Hidden)
    with pytest.raises(UnsupportedError, match="use llama-cpp"):
        llama_cpp_noflash.load(checkpoint(llama), threads=1)


class _Hidden:
    """A build whose parameters were not recognised."""

    name = "some build"
    context_offsets: ClassVar[Mapping[str, int]] = MappingProxyType({})


def test_what_it_can_do_is_what_llama_cpp_can() -> None:
    assert llama_cpp_noflash.CAPABILITIES == llama_cpp.CAPABILITIES
    with pytest.raises(AttributeError):
        _ = llama_cpp_noflash.NO_SUCH_NAME  # type: ignore[attr-defined]
