"""The compiled kernels are there, for the instruction sets that the processor has, and APR_ISA chooses among them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tiny
from apr.errors import UsageError
from apr.kernels import _extension

IS_X86 = platform.machine() in {"x86_64", "AMD64"}
CPU_INFO = Path("/proc/cpuinfo")
AVX2 = {"avx2", "fma", "f16c", "bmi2"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
NEEDED = (  # best first: a name, and what Linux says of a processor that runs it
    ("avx512vnni", AVX512 | {"avx512_vnni"}),
    ("avx512", AVX512),
    ("avxvnni", AVX2 | {"avx_vnni"}),
    ("avx2", AVX2),
    ("neon", {"asimddp"}),
    ("portable", set()),
)
needs_extension = pytest.mark.skipif(
    _extension.native() is None, reason="there is no compiler here, so nothing is compiled"
)
WITHOUT_EXTENSION = """
import sys
sys.modules["apr.kernels._native"] = None
from apr.__main__ import main
sys.argv = ["apr", "run", sys.argv[1], "hi", "-n", "3", "--json"]
main()
"""


def flags() -> set[str]:
    """What Linux says that every core of this processor can do."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    cores = [set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))]
    return set.intersection(*cores) if cores else set()


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, without an APR_ISA; forgotten before and after, so that the environment is read again."""
    module: Any = _extension.native()
    before = None if module is None else module.instruction_set()
    monkeypatch.delenv("APR_ISA", raising=False)

    def forget() -> None:
        _extension._load.cache_clear()
        _extension.native.cache_clear()

    forget()
    yield module
    monkeypatch.undo()
    forget()
    if module is not None:
        module.use_instruction_set(before)


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="there is no compiler here")
def test_where_there_is_a_compiler_there_is_the_extension() -> None:
    assert isinstance(_extension.native(), ModuleType) and _extension.unavailable_reason() is None


@needs_extension
@pytest.mark.skipif(not CPU_INFO.exists(), reason="only Linux has /proc/cpuinfo")
def test_the_instruction_sets_are_those_of_the_processor(extension: Any) -> None:
    there = flags()
    expected = [name for name, needed in NEEDED if needed <= there and (IS_X86 or name in {"neon", "portable"})]
    found = extension.instruction_sets()
    # a compiler that is older than AVX-VNNI builds all the others
    assert found in (expected, [name for name in expected if name != "avxvnni"])


@needs_extension
def test_without_apr_isa_the_best_is_used(extension: Any) -> None:
    del extension
    script = (
        "from apr.kernels import _extension as e; n = e.native(); print(n.instruction_set(), *n.instruction_sets())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    used, best, *_ = done.stdout.split()
    assert used == best


@needs_extension
def test_apr_isa_forces_one(extension: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in extension.instruction_sets():
        _extension.native.cache_clear()
        monkeypatch.setenv("APR_ISA", name)
        module: Any = _extension.native()
        assert module.instruction_set() == name


@needs_extension
@pytest.mark.parametrize("name", ["avx9", "AVX2", "numpy"])
def test_an_instruction_set_that_is_not_there_is_refused(
    extension: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("APR_ISA", name)
    with pytest.raises(UsageError) as caught:
        _extension.native()
    assert repr(name) in str(caught.value) and ", ".join(extension.instruction_sets()) in str(caught.value)


def test_a_command_refuses_it_as_a_usage_error(extension: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del extension
    monkeypatch.setenv("APR_ISA", "avx9")
    done = subprocess.run(
        [sys.executable, "-m", "apr", "run", str(tiny.write(tmp_path, "gguf")), "hi"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "APR_ISA is 'avx9'" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ModuleNotFoundError("no such module", name="apr.kernels._native"), "the compiled kernels are not installed"),
        (ImportError("libc.so.6: version `GLIBC_2.36' not found"), "cannot be loaded (libc.so.6: version `GLIBC_2.36'"),
        (ModuleNotFoundError("No module named 'other'", name="other"), "cannot be loaded (No module named 'other')"),
    ],
    ids=["missing", "foreign", "broken"],
)
def test_what_cannot_be_imported_is_none_with_a_reason(
    extension: Any, monkeypatch: pytest.MonkeyPatch, failure: ImportError, reason: str
) -> None:
    def fail(name: str) -> ModuleType:
        if name == "apr.kernels._native":
            raise failure
        return import_module(name)

    monkeypatch.setattr(_extension, "import_module", fail)
    assert _extension.native() is None
    assert reason in str(_extension.unavailable_reason())


def test_apr_isa_without_the_extension_is_refused(extension: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apr.kernels._native", None)
    monkeypatch.setenv("APR_ISA", "portable")
    with pytest.raises(UsageError, match=r"APR_ISA is 'portable'.*no compiled kernels"):
        _extension.native()


def test_without_the_extension_numpy_computes_and_one_line_says_so(extension: Any, tmp_path: Path) -> None:
    del extension
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTENSION, str(tiny.write(tmp_path, "gguf"))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '"kernel_set": "numpy"' in done.stdout.replace('":"', '": "')
    assert sum("NumPy computes" in line for line in done.stderr.splitlines()) == 1
