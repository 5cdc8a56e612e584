"""What the model card beside the weights says of them, in GGUF's words: name, author, licence, what it was made from.

The keys are those that llama.cpp's converter fills from a card (gguf-py, metadata.py); nothing is guessed from a model's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CARD_NAME = "README.md"
_LONGEST_BYTES = 4 << 20
_HUB = "https://huggingface.co/"
# GGUF key -> names in the card, the first that is there counts
_TEXTS = {
    "general.name": ("model_name", "name"),
    "general.author": ("model_author", "author", "model_creator"),
    "general.version": ("model_version", "version"),
    "general.organization": ("model_organization", "organization"),
    "general.description": ("model_description", "description"),
    "general.license": ("license",),
    "general.license.name": ("license_name",),
    "general.license.link": ("license_link",),
}
_LISTS = {"general.tags": ("tags", "pipeline_tag"), "general.languages": ("languages", "language")}
_MODELS = {"general.base_model": ("base_model", "base_models"), "general.dataset": ("datasets", "dataset")}


def read(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """GGUF keys of the card in a folder, and a note if there is one that cannot be read: a model is good without."""
    path = folder / CARD_NAME
    if not path.is_file():
        return {}, ()
    from huggingface_hub.repocard import metadata_load

    try:
        if path.stat().st_size > _LONGEST_BYTES:
            raise ValueError(f"has more than {_LONGEST_BYTES} bytes")
        stated = metadata_load(path) or {}
    except Exception as exc:  # noqa: BLE001 - whatever YAML finds wrong with somebody's text
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        return {}, (f"what {CARD_NAME} says of the model, its licence too, was left out: {first}",)
    return dict(_keys(stated)), ()


def _keys(stated: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, names in _TEXTS.items():
        value = next((text for name in names if (text := ", ".join(_texts(stated.get(name))))), "")
        if value:
            yield key, value
    for key, names in _LISTS.items():
        if values := [text for name in names for text in _texts(stated.get(name))]:
            yield key, values
    for key, names in _MODELS.items():
        ids = next((found for name in names if (found := _texts(stated.get(name)))), [])
        if ids:
            yield f"{key}.count", len(ids)
        for number, model in enumerate(ids):
            yield from ((f"{key}.{number}.{name}", value) for name, value in _of_model(model))


def _texts(value: Any) -> list[str]:
    """One text or several; YAML reads the language "no" as false, and a version as a number."""
    values = value if isinstance(value, list) else [value]
    readable = ("no" if one is False else str(one) for one in values if isinstance(one, str | bool | int | float))
    return [text for text in readable if text]


def _of_model(model: str) -> Iterator[tuple[str, str]]:
    """Of an id on the hub, or an address."""
    is_address = "://" in model
    owner, _, name = model.removeprefix(_HUB).rpartition("/")
    if not is_address or (model.startswith(_HUB) and owner and "/" not in owner):
        yield "name", name
        if owner:
            yield "organization", owner
    if is_address or owner:
        yield "repo_url", model if is_address else f"{_HUB}{model}"
