"""An `.apr` file opened for surgery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mutants._gguf import Tensor
from mutants._patient import Patient

_APR_KEYS = {
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
}


class AprPatient(Patient):
    """An `.apr` file, read and written by `apr.formats.apr`."""

    def __init__(self, path: Path) -> None:
        from apr.formats import open_model

        with open_model(path) as file:
            self.metadata: dict[str, Any] = json.loads(json.dumps(dict(file.metadata)))
            self.tensors = {name: Tensor(0, info.shape, file.raw(name).copy()) for name, info in file.tensors.items()}
            assert {info.codec for info in file.tensors.values()} == {"f32"}

    def names(self) -> list[str]:
        return list(self.tensors)

    def array(self, name: str) -> np.ndarray:
        part = self.part(name)
        return part.data.view("<f4").reshape(part.shape)

    def put(self, name: str, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8)
        self.tensors[name] = Tensor(0, values.shape, data)

    def part(self, name: str) -> Tensor:
        return self.tensors[name]

    def remove(self, name: str) -> None:
        del self.tensors[name]

    def setting(self, key: str) -> Any:
        if (key := _APR_KEYS.get(key, key)) in self.metadata:
            return self.metadata[key]
        value: Any = self.metadata["hf_config"]
        for step in key.split("."):
            value = None if value is None else value.get(step)
        return value

    def set(self, key: str, value: Any) -> None:
        key = _APR_KEYS.get(key, key)
        outer, _, inner = key.partition(".")
        if inner:
            self.metadata["hf_config"][outer][inner] = value
        else:
            (self.metadata if key in self.metadata else self.metadata["hf_config"])[key] = value

    def drop(self, key: str) -> None:
        key = _APR_KEYS.get(key, key)
        found = [part.pop(key, None) for part in (self.metadata, self.metadata["hf_config"])]
        assert any(v is not None for v in found), f"the file does not say {key}"

    def tokens(self) -> list[str]:
        return list(self.metadata["tokenizer.vocabulary"])

    def set_tokens(self, tokens: Sequence[str]) -> None:
        """Replace the whole vocabulary."""
        self.metadata["tokenizer.vocabulary"] = list(tokens)

    def swap_tokens(self, first: int, second: int) -> None:
        tokens = self.tokens()
        tokens[first], tokens[second] = tokens[second], tokens[first]
        self.set_tokens(tokens)

    def merges(self) -> list[str]:
        return list(self.metadata["tokenizer.merges"])

    def set_merges(self, merges: Sequence[str]) -> None:
        self.metadata["tokenizer.merges"] = list(merges)

    def make_normal(self, token_id: int) -> None:
        self.metadata["tokenizer.token_type"][token_id] = 1

    def set_add_bos(self, wanted: bool) -> None:
        self.metadata["tokenizer.add_bos_token"] = wanted

    def set_id(self, role: str, token_id: int) -> None:
        self.metadata[f"tokenizer.{ {'pad': 'padding'}.get(role, role) }_token_id"] = token_id

    def set_stop_list(self, token_ids: Sequence[int]) -> None:
        for name in ("eot", "eom"):
            self.metadata.pop(f"tokenizer.{name}_token_id", None)
        for name, token_id in zip(("eot", "eom"), token_ids, strict=False):
            self.metadata[f"tokenizer.{name}_token_id"] = token_id

    def template(self) -> str | None:
        return self.metadata.get("tokenizer.chat_template")

    def set_template(self, text: str | None) -> None:
        for key in ("tokenizer.chat_template", "chat_template"):
            self.metadata.pop(key, None)
            if text is not None:
                self.metadata[key] = text

    def save(self, folder: Path) -> Path:
        from apr.formats import apr
        from apr.formats._base import Outgoing

        folder.mkdir(parents=True, exist_ok=True)
        tensors = tuple((name, "f32", self.tensors[name].shape) for name in sorted(self.tensors, key=str.encode))
        outgoing = Outgoing(
            metadata=self.metadata,
            tensors=tensors,
            data=lambda name: np.ascontiguousarray(self.tensors[name].data),
        )
        apr.write(folder / "model.apr", outgoing)
        return folder / "model.apr"
