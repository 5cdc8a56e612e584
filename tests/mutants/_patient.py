"""A model file opened for surgery: tensors, settings, tokenizer, template and stop ids, under one set of names.

Tensors and settings go by Hugging Face's names; arrays are in the file's own layout. GGUF and safetensors are taken
apart by `struct` and put together again; `.apr`, which only our own writer writes, goes through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Patient(ABC):
    """A healthy file, in memory. `save` writes what has become of it."""

    # tensors

    @abstractmethod
    def names(self) -> list[str]:
        """Canonical names of the tensors that are there."""

    @abstractmethod
    def array(self, name: str) -> np.ndarray:
        """float32: a tensor, decoded, in the file's layout."""

    @abstractmethod
    def put(self, name: str, values: np.ndarray) -> None:
        """Replace a tensor, or add one, in the encoding that it has (float32 for a new one)."""

    @abstractmethod
    def part(self, name: str) -> Any:
        """The tensor as the container has it: `kind`, `shape`, `data` (uint8), all of which may be set."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take a tensor out."""

    def change(self, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace a tensor by a function of itself."""
        self.put(name, np.ascontiguousarray(how(self.array(name).copy()), dtype=np.float32))

    def rows(self, name: str) -> np.ndarray:
        """uint8 [rows, bytes of a row]: a copy of the encoded tensor."""
        part = self.part(name)
        encoded: np.ndarray = part.data.reshape(part.shape[0], -1).copy()
        return encoded

    def put_rows(self, name: str, rows: np.ndarray) -> None:
        """Replace the encoded bytes of a tensor."""
        self.part(name).data = np.ascontiguousarray(rows).reshape(-1)

    def swap(self, first: str, second: str) -> None:
        """Exchange what lies under two names."""
        a, b = self.part(first), self.part(second)
        a.kind, b.kind, a.shape, b.shape, a.data, b.data = b.kind, a.kind, b.shape, a.shape, b.data, a.data

    # settings

    @abstractmethod
    def setting(self, key: str) -> Any:
        """A hyper-parameter, by its Hugging Face name; None if the file does not say."""

    @abstractmethod
    def set(self, key: str, value: Any) -> None:
        """Set a hyper-parameter."""

    @abstractmethod
    def drop(self, key: str) -> None:
        """Take a hyper-parameter out of the file."""

    # language

    @abstractmethod
    def tokens(self) -> list[str]:
        """The vocabulary, by id."""

    @abstractmethod
    def swap_tokens(self, first: int, second: int) -> None:
        """Exchange two vocabulary entries."""

    @abstractmethod
    def merges(self) -> list[str]:
        """The merges, "left right", by rank."""

    @abstractmethod
    def set_merges(self, merges: Sequence[str]) -> None:
        """Replace the merges."""

    @abstractmethod
    def make_normal(self, token_id: int) -> None:
        """Turn a special token into an ordinary one."""

    @abstractmethod
    def set_add_bos(self, wanted: bool) -> None:
        """Whether a text begins with a beginning-of-text token."""

    @abstractmethod
    def set_id(self, role: str, token_id: int) -> None:
        """Which token is "bos", "eos" or "pad"."""

    @abstractmethod
    def set_stop_list(self, token_ids: Sequence[int]) -> None:
        """The stop ids that the file names besides the end of text."""

    @abstractmethod
    def template(self) -> str | None:
        """The chat template."""

    @abstractmethod
    def set_template(self, text: str | None) -> None:
        """Replace the chat template; None takes it out."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the file into a new folder; the path to open."""

    def token_id(self, token: str) -> int:
        """The id of a vocabulary entry."""
        return self.tokens().index(token)


def open_patient(path: Path) -> Patient:
    """Open a model of any format. The file itself is never changed."""
    from mutants._patient_apr import AprPatient
    from mutants._patient_gguf import GgufPatient
    from mutants._patient_safetensors import SafetensorsPatient

    if path.is_dir():
        return SafetensorsPatient(path)
    return GgufPatient(path) if path.suffix == ".gguf" else AprPatient(path)
