"""The part of a byte-level vocabulary that one text can use.

The library needs a third of a second and more to take in a vocabulary of 150,000 entries with its merges, and holds the
interpreter meanwhile. A byte-level BPE looks up nothing but stretches of the text, and pairs of them that are stretches
again; so the entries and merges that occur in a text give it the same ids as all of them. `searchable` makes sure that
this holds and that the library would take the tables. Where it is not sure, the library itself has to say.
"""

from __future__ import annotations

import numpy as np

from apr.tokenizer._strings import Strings, keys_of
from apr.tokenizer.byte_alphabet import BYTE_OF_CHAR, NOT_UTF8, from_bytes
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, ids_of_type

MAX_TEXT_BYTES = 8192  # every stretch of a text is looked up: a longer one costs as much as all tables
_FEW = 20_000  # entries and merges together: the library takes them as fast
_SPACE = 0x20


class Parts:
    """Tables that `searchable` has found sound, to take parts of."""

    def __init__(self, tokens: Strings, merges: Strings, visible: np.ndarray) -> None:
        """visible: bool [vocab_size], the entries that plain text may become."""
        self._tokens = tokens
        self._merges = merges
        self._visible = visible
        self._lengths = np.flatnonzero(np.bincount(tokens.lengths[visible]))
        alphabet = [char for char, byte in BYTE_OF_CHAR.items() if byte not in NOT_UTF8]
        found = tokens.indices_of(_distinct(Strings.of(alphabet).keys))
        self._missing = frozenset(alphabet) - {tokens[i] for i in found if visible[i]}

    def for_text(self, text: str) -> tuple[dict[str, int], list[tuple[str, str]]] | None:
        """Entries by their spelling, and merges in order of rank: all that the text can use.

        None for a text that needs all tables: a long one, and one with a byte that has no entry. The library leaves
        such a byte out, and joins what is not a stretch of the text.
        """
        data = text.encode()
        spelled = from_bytes(data)
        if len(data) > MAX_TEXT_BYTES or not self._missing.isdisjoint(spelled):
            return None
        found = self._tokens.indices_of(_stretches(spelled, self._lengths))
        vocab = {self._tokens[i]: i for i in found if self._visible[i]}
        pairs = {
            f"{entry[:cut]} {entry[cut:]}": (entry[:cut], entry[cut:])
            for entry in vocab
            for cut in range(1, len(entry))
            if entry[:cut] in vocab and entry[cut:] in vocab
        }
        ranks = sorted(self._merges.indices_of(_distinct(Strings.of(list(pairs)).keys)))
        merges = (self._merges[rank] for rank in ranks)
        return vocab, [pairs[merge] for merge in merges if merge in pairs]


def searchable(spec: TokenizerSpec) -> Parts | None:
    """The tables of a spec, if they are large, byte-level, and the library would take them; else None."""
    tokens, merges = spec.tokens, spec.merges
    if spec.kind != "bpe" or spec.normalization != "none" or len(tokens) + len(merges) < _FEW:
        return None
    if not isinstance(tokens, Strings) or not isinstance(merges, Strings) or not tokens.is_text:
        return None
    visible = np.ones(len(tokens), dtype=bool)
    visible[ids_of_type(spec, *HIDDEN_TYPES)] = False
    known = tokens.sorted_keys[visible[tokens.order]]
    needed = _needed(merges)
    if needed is None or merges.has_duplicates or not _all_in(needed, known):
        return None
    return Parts(tokens, merges, visible)


def _needed(merges: Strings) -> np.ndarray | None:
    """uint64, ascending: keys of all that must be entries: both parts of each merge, and what it makes.

    None if a merge is anything but two parts and one space.
    """
    keys = []
    for part in merges.parts():
        block, starts, lengths = part.block, part.starts, part.lengths
        spaces = np.flatnonzero(block == _SPACE)
        if spaces.size != starts.size or (spaces <= starts).any() or (spaces >= starts + lengths - 1).any():
            return None
        keys.append(keys_of(block, starts, spaces - starts))
        keys.append(keys_of(block, spaces + 1, starts + lengths - spaces - 1))
        # without the spaces, each merge spells what it makes, one place further to the front than the one before it
        keys.append(keys_of(block[block != _SPACE], starts - np.arange(starts.size), lengths - 1))
    return _distinct(np.concatenate(keys))


def _stretches(spelled: str, lengths: np.ndarray) -> np.ndarray:
    """uint64, ascending: keys of all stretches of a text, in whole characters, that have one of these lengths in bytes.

    lengths:  int64, ascending
    """
    text = Strings.of([spelled])
    starts = text.starts[0] + np.flatnonzero((np.frombuffer(spelled.encode(), dtype=np.uint8) & 0xC0) != 0x80)
    end = text.starts[0] + text.lengths[0]
    is_border = np.zeros(int(end) + 1, dtype=bool)
    is_border[starts] = is_border[end] = True
    places = [at[is_border[at + n]] for n in lengths if (at := starts[starts + n <= end]).size]
    sizes = np.repeat(lengths[: len(places)], [at.size for at in places])
    return _distinct(keys_of(text.block, np.concatenate([starts[:0], *places]), sizes))


def _distinct(keys: np.ndarray) -> np.ndarray:
    """The keys in ascending order, each once."""
    ordered = np.sort(keys)
    found: np.ndarray = ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered
    return found


def _all_in(keys: np.ndarray, known: np.ndarray) -> bool:
    """Whether all keys are among the known ones; both ascending."""
    at = np.searchsorted(known, keys)
    return bool(known.size) and bool((known[np.minimum(at, known.size - 1)] == keys).all())
