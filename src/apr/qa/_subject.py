"""A model under judgement: facts about it, each worked out once and shared by the gates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.tokenizer import spec_of
from apr.tokenizer.spec import TokenizerSpec


class Subject:
    """An opened model file. Raises FormatError when it cannot be opened at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_model(path)
        self.progress: Callable[[int], None] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.n_bytes for info in self.file.tensors.values())

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The file through its architecture. Raises UnsupportedError for one that we do not run."""
        return Checkpoint(self.file)

    @cached_property
    def tokenizer_spec(self) -> TokenizerSpec:
        """The tokenizer that the file carries. Raises TokenizerError."""
        return spec_of(
            self.file.format, self.file.metadata, self.file.documents, vocab_size=self.checkpoint.config.vocab_size
        )

    def advance(self, n_bytes: int) -> None:
        """Tell whoever waits that so many bytes have been checked."""
        if self.progress is not None:
            self.progress(n_bytes)

    def close(self) -> None:
        """Release the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
