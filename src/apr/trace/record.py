"""What a trace is, as data: a header that says what ran on what, figures by slot and position, and what stands out."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from apr.engines._record import TemplateUse
from apr.kernels.statistics import COLUMNS

SCHEMA = "apr.trace/1"
FLOAT16_MAX = 65504.0  # IEEE 754, binary16: (2 - 2**-10) * 2**15
BFLOAT16_MAX = float.fromhex("0x1.fep127")  # eight bits of precision, the exponents of float32


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What ran on what. Traces that differ in more than what is under test cannot be compared.

    model:             as it was asked for
    model_sha256:      of the model file; for a folder, of the list of its files' digests
    tensors_sha256:    of the tensors under canonical names; equal for two containers with the same encoded weights
    tokenizer_sha256:  of everything that decides tokenisation; null where it cannot be read and the ids were given
    activations:       "int8": rounded to 8 bits in blocks of 32 before a product with a block codec; "float32": exact
    kv_cache:          how keys and values are kept
    template:          what was done about the chat template; null where the token ids were given
    prompt_text:       what was tokenised, template included
    prompt_tokens:     the text of each id, in which half a character is U+FFFD
    token_ids_sha256:  of the ids as little-endian int64
    positions:         those that the figures and tensors of every slot cover, counted from 0
    environment:       `APR_*` switches in force
    """

    model: str
    model_format: str
    model_sha256: str
    tensors_sha256: str
    tokenizer_sha256: str | None
    engine: str
    engine_version: str
    kernel_set: str
    instruction_set: str
    activations: str
    kv_cache: str
    threads: int
    template: TemplateUse | None
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    prompt_tokens: tuple[str, ...]
    token_ids_sha256: str
    positions: tuple[int, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one slot, one entry a position of the header's `positions`.

    count:                     values at the position
    mean, std, min, max, rms:  over the finite ones, in float64; null if there are none. std divides by their number
    nan, inf:                  how many are not finite
    """

    count: tuple[int, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...]
    min: tuple[float | None, ...]
    max: tuple[float | None, ...]
    rms: tuple[float | None, ...]
    nan: tuple[int, ...]
    inf: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SlotTrace:
    """One slot.

    slot:        its full name, layers.3.q_rope
    layer, name: the parts of it; layer is null for what lies outside of the layers
    shape:       [positions, values at each]
    statistics:  its figures
    """

    slot: str
    layer: int | None
    name: str
    shape: tuple[int, int]
    statistics: Figures


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first slot of the pass with a value that is not finite: where it is born, for all slots before it are finite.

    position:  the first such position of that slot
    nan, inf:  how many values at it
    """

    slot: str
    layer: int | None
    position: int
    nan: int
    inf: int


@dataclass(frozen=True, slots=True)
class LayerRange:
    """How far a layer goes, over all its slots and positions.

    layer:           null for embed, final_norm and logits
    slot, position:  where it goes farthest
    max_abs:         the largest finite |x|
    of_float16, of_bfloat16: max_abs over the largest number of that type; from 1 on the type overflows
    """

    layer: int | None
    slot: str
    position: int
    max_abs: float
    of_float16: float
    of_bfloat16: float


@dataclass(frozen=True, slots=True)
class TopToken:
    """One of the most likely next tokens.

    text:     with half a character as U+FFFD
    logprob:  natural logarithm of its probability
    """

    token_id: int
    text: str
    logit: float
    logprob: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward pass over a prompt went through. `slots` are those that were chosen; the rest is of the whole pass.

    slots:            in the order of the pass
    top:              the most likely tokens after the last position, most likely first; empty if its logits are not finite
    margin:           distance in logits between the first two of `top`
    first_nonfinite:  where the first NaN or infinity is born; null if there is none
    ranges:           by layer, in the order of the pass
    highest:          the layer that comes nearest to overflowing
    file, file_bytes: where whole tensors were kept; null if they were not
    seconds:          of the forward passes
    """

    header: TraceHeader
    slots: tuple[SlotTrace, ...]
    top: tuple[TopToken, ...]
    margin: float | None
    first_nonfinite: NonFinite | None
    ranges: tuple[LayerRange, ...]
    highest: LayerRange | None
    file: str | None
    file_bytes: int | None
    seconds: float
    exit_code: int
    schema: str = field(default=SCHEMA)


def token_ids_sha256(token_ids: Sequence[int]) -> str:
    """SHA-256 of token ids as little-endian int64."""
    return hashlib.sha256(struct.pack(f"<{len(token_ids)}q", *token_ids)).hexdigest()


def parts_of(slot: str) -> tuple[int | None, str]:
    """A slot's layer and its name in it: layers.3.q_rope is 3 and q_rope, embed is None and embed."""
    if not slot.startswith("layers."):
        return None, slot
    _, layer, name = slot.split(".", 2)
    return int(layer), name


def figures_of(rows: np.ndarray) -> Figures:
    """Figures of a slot from float64 [positions, 8], the columns of `kernels/statistics.py`."""
    columns = dict(zip(COLUMNS, rows.T, strict=True))

    def counted(name: str) -> tuple[int, ...]:
        return tuple(columns[name].astype(np.int64).tolist())

    def measured(name: str) -> tuple[float | None, ...]:
        return tuple(None if math.isnan(value) else value for value in columns[name].tolist())

    return Figures(
        count=counted("count"),
        mean=measured("mean"),
        std=measured("std"),
        min=measured("min"),
        max=measured("max"),
        rms=measured("rms"),
        nan=counted("nan"),
        inf=counted("inf"),
    )
