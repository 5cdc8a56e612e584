"""The C++ sources that are compiled once per instruction set share nothing with the others.

An inline function of the C++ library that an AVX-512 source uses is compiled with AVX-512, and the linker keeps one copy
of it for everybody: on an older processor the first call of that copy would end the program.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# C functions and intrinsics: nothing that the linker merges
ALLOWED = {"cfloat", "climits", "cmath", "cstddef", "cstdint", "cstring", "immintrin.h", "arm_neon.h"}


def sources(cmake: str) -> list[str]:
    """The list `per_instruction_set` of CMakeLists.txt."""
    found = re.search(r"set\(per_instruction_set\n(.*?)\n\)", cmake, re.DOTALL)
    assert found is not None
    return found[1].split()


def system_headers(file: Path, seen: set[Path]) -> set[str]:
    """The system's headers that a file includes, directly or through our own."""
    seen.add(file)
    text = file.read_text(encoding="utf-8")
    found = set(re.findall(r"#include <([^>]+)>", text))
    for name in re.findall(r'#include "([^"]+)"', text):
        ours = next(p for p in ((file.parent / name).resolve(), (ROOT / "csrc" / name).resolve()) if p.exists())
        if ours not in seen:
            found |= system_headers(ours, seen)
    return found


SOURCES = sources((ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_of_an_instruction_set_uses_no_cpp_library(source: str) -> None:
    assert system_headers(ROOT / source, set()) <= ALLOWED
    assert "namespace apr::APR_ISA {" in (ROOT / source).read_text(encoding="utf-8")


def test_every_source_is_built() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = set(re.findall(r"csrc/\w+\.cpp", cmake))
    assert listed == {f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.cpp")}


def test_a_header_of_the_cpp_library_is_seen(tmp_path: Path) -> None:
    (tmp_path / "inner.h").write_text("#include <algorithm>\n")
    (tmp_path / "op.cpp").write_text('#include "inner.h"\n#include <cmath>\n')
    assert system_headers(tmp_path / "op.cpp", set()) - ALLOWED == {"algorithm"}
