"""Small tokenizers, trained in the test with the library's own trainers, and a model file of llama.cpp's around any of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from apr.tokenizer import pre
from tokenizer.battery import ordinary

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "<think>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(regexes: Sequence[str], *, vocab_size: int = 1400, **model: Any) -> Tokenizer:
    """A byte-level BPE that cuts by `regexes`, with three control and two user-defined tokens."""
    tokenizer = Tokenizer(models.BPE(**model))
    splits = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(ordinary(), trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in USER_DEFINED])
    return tokenizer


def of_family(name: str) -> Tokenizer:
    """A byte-level BPE that cuts as the GGUF pre-tokenizer `name`."""
    rules = pre.rules(name)
    return byte_level(rules.regexes, ignore_merges=rules.ignore_merges)


def sentencepiece(*, prefix: bool, vocab_size: int = 1400) -> Tokenizer:
    """SentencePiece-style BPE with byte fallback: as Llama 2 with `prefix`, as Gemma without."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if prefix else space
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False
    )
    # words, as SentencePiece trains; when it runs, whole texts are merged
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(ordinary(), trainer)
    return _as_distributed(tokenizer, prefix=prefix)


def _as_distributed(trained: Tokenizer, *, prefix: bool) -> Tokenizer:
    """With every split of each token among the merges, as converted SentencePiece models have them, and no byte among the added tokens."""
    document = json.loads(trained.to_str())
    vocab = document["model"]["vocab"]
    hidden = {"<unk>", "<s>", "</s>", *BYTES}
    pairs = [
        [token[:cut], token[cut:]]
        for token in sorted(vocab, key=vocab.__getitem__)
        if token not in hidden
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab and not {token[:cut], token[cut:]} & hidden
    ]
    document["model"]["merges"] = pairs
    document["pre_tokenizer"] = None
    document["added_tokens"] = [entry for entry in document["added_tokens"] if entry["content"] not in BYTES]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def unigram(*, vocab_size: int = 600) -> Tokenizer:
    """A Unigram tokenizer with Metaspace, as T5 and XLM have."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(ordinary(), trainer)
    return tokenizer


def documents(
    tokenizer: Tokenizer, *, bos: str = "<|im_start|>", eos: str = "<|im_end|>", **config: Any
) -> dict[str, Any]:
    """The side files of a model folder."""
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "eos_token": eos,
            **config,
        },
    }


def write_gguf(path: Path, metadata: Mapping[str, Any]) -> Path:
    """A one-layer llama model with this tokenizer, for llama.cpp to load."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    hidden, n_vocab = 32, len(metadata["tokenizer.ggml.tokens"])
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in metadata.items():
        _add(writer, key, value)
    shapes = {
        "token_embd": (n_vocab, hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.ffn_norm": (hidden,),
    }
    shapes |= {
        f"blk.0.{name}": (hidden, hidden)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
