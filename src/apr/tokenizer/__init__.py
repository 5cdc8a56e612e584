"""Text to token ids and back: read a model's tokenizer from any format, run it, write it to another format.

A `TokenizerSpec` (`spec.py`) is plain data, read by `from_gguf.py`, `from_hf.py` or `from_apr.py` from metadata that somebody else
loaded, and written by `to_gguf.py`, `to_hf.py` or `to_apr.py`. `tokenizer.Tokenizer` runs one. The algorithms themselves
(merging, Unicode regexes) are those of the `tokenizers` library; what is ours is the recipe that makes them exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apr.tokenizer.spec import TokenizerSpec


def spec_of(
    file_format: str, metadata: Mapping[str, Any], documents: Mapping[str, Any], *, vocab_size: int
) -> TokenizerSpec:
    """The tokenizer that a model carries, from the metadata or the side files of its format.

    vocab_size:  rows of the embedding table; entries that a tokenizer.json lacks are padded
    Raises       TokenizerError, UnsupportedError.
    """
    if file_format == "gguf":
        from apr.tokenizer.from_gguf import spec_from_gguf

        return spec_from_gguf(metadata)
    if file_format == "apr":
        from apr.tokenizer.from_apr import spec_from_apr

        return spec_from_apr(metadata)
    from apr.tokenizer.from_hf import spec_from_hf

    return spec_from_hf(documents, vocab_size=vocab_size)
