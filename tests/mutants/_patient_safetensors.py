"""A safetensors folder opened for surgery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mutants._patient import Patient
from mutants._safetensors import SafetensorsParts, Tensor

_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


class SafetensorsPatient(Patient):
    """A folder with safetensors and its side files."""

    def __init__(self, path: Path) -> None:
        self.parts = SafetensorsParts(path)
        self.config = self.parts.documents["config.json"]
        self.tokenizer = self.parts.documents["tokenizer.json"]
        self.tokenizer_config = self.parts.documents["tokenizer_config.json"]

    def names(self) -> list[str]:
        return list(self.parts.tensors)

    def array(self, name: str) -> np.ndarray:
        part = self.part(name)
        values: np.ndarray = part.data.view(_DTYPES[part.kind]).astype(np.float32).reshape(part.shape)
        return values

    def put(self, name: str, values: np.ndarray) -> None:
        kind = self.parts.tensors[name].kind if name in self.parts.tensors else "F32"
        data = np.ascontiguousarray(values, dtype=_DTYPES[kind])
        self.parts.tensors[name] = Tensor(kind, values.shape, data.reshape(-1).view(np.uint8))

    def part(self, name: str) -> Tensor:
        return self.parts.tensors[name]

    def remove(self, name: str) -> None:
        del self.parts.tensors[name]

    def setting(self, key: str) -> Any:
        value: Any = self.config
        for step in key.split("."):
            value = None if value is None else value.get(step)
        return value

    def set(self, key: str, value: Any) -> None:
        outer, _, inner = key.partition(".")
        if inner:
            self.config[outer][inner] = value
        else:
            self.config[key] = value

    def drop(self, key: str) -> None:
        assert self.config.get(key) is not None, f"the file does not say {key}"
        del self.config[key]

    def tokens(self) -> list[str]:
        by_id = {i: token for token, i in self.tokenizer["model"]["vocab"].items()}
        by_id |= {entry["id"]: entry["content"] for entry in self.tokenizer["added_tokens"]}
        return [by_id.get(i, "") for i in range(max(by_id) + 1)]

    def swap_tokens(self, first: int, second: int) -> None:
        tokens, vocab = self.tokens(), self.tokenizer["model"]["vocab"]
        vocab[tokens[first]], vocab[tokens[second]] = second, first

    def merges(self) -> list[str]:
        return [m if isinstance(m, str) else " ".join(m) for m in self.tokenizer["model"]["merges"]]

    def set_merges(self, merges: Sequence[str]) -> None:
        self.tokenizer["model"]["merges"] = [m.split(" ") for m in merges]

    def make_normal(self, token_id: int) -> None:
        entry = next(e for e in self.tokenizer["added_tokens"] if e["id"] == token_id)
        self.tokenizer["added_tokens"].remove(entry)
        self.tokenizer["model"]["vocab"][entry["content"]] = token_id

    def set_add_bos(self, wanted: bool) -> None:
        self.tokenizer_config["add_bos_token"] = wanted

    def set_id(self, role: str, token_id: int) -> None:
        token = self.tokens()[token_id]
        self.tokenizer_config[f"{role}_token"] = token
        self.parts.documents["special_tokens_map.json"][f"{role}_token"] = token
        self.config[f"{role}_token_id"] = token_id

    def set_stop_list(self, token_ids: Sequence[int]) -> None:
        self.parts.documents["generation_config.json"]["eos_token_id"] = [self.config["eos_token_id"], *token_ids]

    def template(self) -> str | None:
        text: str | None = self.tokenizer_config.get("chat_template")
        return text

    def set_template(self, text: str | None) -> None:
        self.tokenizer_config.pop("chat_template", None)
        if text is not None:
            self.tokenizer_config["chat_template"] = text

    def save(self, folder: Path) -> Path:
        return self.parts.write(folder)
