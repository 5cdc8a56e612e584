"""The metadata of an `.apr` file that is made from another format: upstream's typed keys in upstream's order, then the custom ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from apr.convert._carried import DEFAULT_VERSION, Carried
from apr.convert._items import Item
from apr.errors import UsageError
from apr.models import _config_apr
from apr.models._checkpoint import Checkpoint
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.to_apr import to_apr as tokenizer_to_apr

# the order of aprender's `AprV2Metadata`; keys that are not here follow behind
ORDER = (
    *("model_type", "name", "description", "author", "license", "data_source", "data_license", "version", "source"),
    *("original_format", "created_at", "total_size", "param_count", "quantization", "sharding", "chat_template"),
    *("chat_format", "special_tokens", "architecture", "hf_architecture", "hf_model_type", "hidden_size", "num_layers"),
    *(
        "num_heads",
        "num_kv_heads",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
        "rope_theta",
        "rope_type",
    ),
    *("rms_norm_eps", "head_dim"),
)


def metadata(checkpoint: Checkpoint, spec: TokenizerSpec, carried: Carried, items: Sequence[Item]) -> dict[str, Any]:
    """All keys. The same source gives the same keys: there is a date only if SOURCE_DATE_EPOCH sets one.

    Raises UnsupportedError for a tokenizer that is not tables, UsageError for a SOURCE_DATE_EPOCH that is no number.
    """
    config = checkpoint.config
    keys: dict[str, Any] = {
        "model_type": config.model_type,
        "name": config.model_type,
        "version": DEFAULT_VERSION,
        **carried.card,
        "license": carried.card.get("license"),
        "data_source": None,
        "data_license": None,
        "source": checkpoint.file.path.resolve().name,
        "original_format": checkpoint.file.format,
        "total_size": sum(item.n_bytes for item in items),
        "param_count": sum(_count(shape) for shape in checkpoint.expected.values()),
        **_created_at(),
        **_config_apr.to_apr(config),
        **tokenizer_to_apr(spec),
    }
    if config.tie_word_embeddings:
        keys["tied_embeddings"] = True
    if carried.generation:
        keys["generation_config"] = carried.generation
    if carried.source_metadata:
        keys["source_metadata"] = carried.source_metadata
    return {key: keys[key] for key in ORDER if key in keys} | keys


def _created_at() -> dict[str, str]:
    """The build's date, as https://reproducible-builds.org/specs/source-date-epoch/ has it."""
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    if not stated:
        return {}
    if not stated.isdigit() or len(stated) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is {stated!r}, expected seconds since 1970; correct or unset it")
    return {"created_at": datetime.fromtimestamp(int(stated), UTC).isoformat().replace("+00:00", "Z")}


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
