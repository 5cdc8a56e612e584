"""Block codecs, one a file: how weights lie in bytes. A codec's name is its file's name.

Each file defines `Codec`, a subclass of `_block.BlockCodec`; nothing else has to be edited to add one.
"""

from __future__ import annotations

from functools import cache

from apr import _folder
from apr.kernels.quants._block import BlockCodec


@cache
def names() -> tuple[str, ...]:
    """The codecs that can be decoded, by name."""
    return tuple(name.replace("-", "_") for name in _folder.names(__name__))


@cache
def codec(name: str) -> BlockCodec:
    """The codec called `name`. Raises UnsupportedError, listing those there are, for any other name."""
    made: BlockCodec = _folder.load(__name__, name).Codec()
    return made
