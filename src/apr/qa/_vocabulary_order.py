"""The order that a trainer leaves in a byte-level vocabulary: ids rise with the rank of the merge that makes them.

An entry that was exchanged with another, or a merge that was moved, is out of that order; nothing else in a file shows it.
A vocabulary that was put together otherwise is out of order throughout, and no claim is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apr.errors import AprError
from apr.tokenizer.byte_alphabet import BYTE_OF_CHAR, CHAR_OF_BYTE
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.tables import as_tables

# trained vocabularies have none: SmolLM, Qwen2. Below this share somebody's hand shows, above it another way of making
MOST_BY_HAND = 0.02


@dataclass(frozen=True, slots=True)
class Disorder:
    """Entries that are out of order.

    token_id:  the first that is
    n:         places where the order breaks; n_all: places looked at
    """

    token_id: int
    n: int
    n_all: int
    of: str


def disorder(spec: TokenizerSpec) -> Disorder | None:
    """Where a vocabulary that is in order almost throughout is not; None if it is in order, or never was."""
    try:
        tables = as_tables(spec)
    except AprError:  # a tokenizer.json that no tables say
        return None
    if tables.kind != "bpe":
        return None
    id_of = {token: i for i, token in enumerate(tables.tokens)}
    made = [id_of[joined] for merge in tables.merges if (joined := merge.replace(" ", "", 1)) in id_of]
    # trainers sort the alphabet by character, some by byte
    by_character, by_byte = sorted(BYTE_OF_CHAR), [CHAR_OF_BYTE[byte] for byte in range(256)]
    alphabets = [[id_of[char] for char in order if char in id_of] for order in (by_character, by_byte)]
    alphabet = min(alphabets, key=lambda ids: len(_breaks(ids)))
    for ids, name in ((made, "merges"), (alphabet, "bytes")):
        breaks = _breaks(ids)
        # one exchange breaks the order in up to four places
        if breaks and len(breaks) <= max(4, MOST_BY_HAND * len(ids)):
            return Disorder(breaks[0], len(breaks), len(ids), name)
    return None


def _breaks(ids: list[int]) -> list[int]:
    """The ids that are smaller than the one before them."""
    row = np.array(ids, dtype=np.int64)
    found: list[int] = row[1:][np.diff(row) < 0].tolist()
    return found
