"""The models that are measured: the file, what a token makes the machine read, and the tokens that everyone is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from apr import hub
from apr.bench import _workload
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.tokenizer import spec_of
from apr.tokenizer.tokenizer import Tokenizer

DEFAULT = ("smollm2", "qwen2.5-coder:0.5b")


@dataclass(frozen=True)
class Model:
    """A model file by the name that was asked for."""

    name: str
    path: Path

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The opened file, seen through its architecture."""
        return Checkpoint(open_model(self.path))

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @cached_property
    def bytes_by_codec(self) -> dict[str, int]:
        """Bytes that each token makes the machine read: all tensors but the embedding look-up; a tied one is the head."""
        return _workload.bytes_by_codec(self.checkpoint)

    @property
    def bytes_per_token(self) -> int:
        """Their sum."""
        return sum(self.bytes_by_codec.values())

    @cached_property
    def token_ids(self) -> list[int]:
        """Python source code, tokenized: what every contestant reads, a thousand tokens and more."""
        file, config = self.checkpoint.file, self.checkpoint.config
        spec = spec_of(file.format, file.metadata, file.documents, vocab_size=config.vocab_size)
        return Tokenizer(spec).encode(_workload.source_text())

    def prompt(self, n_tokens: int, *, start: int = 0) -> list[int]:
        """So many of the tokens."""
        assert start + n_tokens <= len(self.token_ids)
        return self.token_ids[start : start + n_tokens]

    def facts(self) -> dict[str, Any]:
        """What every row says about the model."""
        return {
            "name": self.name,
            "file": self.path.name,
            "size_bytes": self.size_bytes,
            "n_parameters": sum(self.checkpoint.tensors[n].info.n_elements for n in self.checkpoint.expected),
            "bytes_by_codec": self.bytes_by_codec,
        }


def resolve(reference: str) -> Model:
    """A model by alias or path; what is not here yet is pulled."""
    is_path = Path(reference).exists()
    return Model(Path(reference).stem if is_path else reference, Path(reference) if is_path else hub.resolve(reference))
