"""Healthy models: twins of every architecture that behave like trained models, in every format.

Random weights of the usual size have flat logits and attention that looks everywhere alike: nothing that is planted in
them matters, and any noise flips the arg-max. These twins are random too, and made so that what matters in a trained
model matters here:

- an untied output head knows a likely successor of each token (`head[successor] = noise + embedding[token]`): a
  bigram skeleton, which the context overrules at some positions; the median margin is some nats; the end of turn
  follows a few of them, so that answers end;
- with a tied head each token would predict itself; there the final norm's signs vary, and tokens are paired under them:
  each is a likely successor of the other;
- padding is never predicted, and control tokens are rarely;
- attention chooses (its scores spread by about 1.5), so that positions, windows and scales matter;
- every sublayer adds a fair share to the residual stream, so that each tensor matters;
- norms, biases and head norms vary from entry to entry.

`test_mutants.py` measures these. Tokenizers are trained in the test, with merges that cross digits, spaces and letters.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tiny
from apr import models as architectures
from apr.models._checkpoint import expected_tensors
from apr.models._config import ModelConfig, RopeScaling
from apr.tokenizer import pre
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.spec import TokenizerSpec, TokenType
from tokenizer import trained

VOCAB_SIZE = 704
LOGIT_SPREAD = 5.0
LAYERS = 3
ENDERS = 24

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a twin. Answer in one line.<|im_end|>\\n' }}{% endif %}"
) + CHATML
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
TURNS = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])"
    " + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
BARS = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' + '\\n' }}{% endif %}"
)
TURN_OVER = "<|turn_over|>"  # ends a turn, and no reader knows its text: only the list of stop ids says so

# variant -> (architecture, changes to `tiny.config`)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rms_norm_eps": 1e-5, "rope_theta": 100000.0}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-linear": ("llama", {"rope_scaling": RopeScaling("linear", 4.0)}),
    "llama-yarn": ("llama", {"rope_scaling": RopeScaling("yarn", 4.0, original_max_position_embeddings=512)}),
    "llama-wide": ("llama", tiny.BLOCKS_OF_256),
    "mistral": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0}),
    "qwen2-tied": ("qwen2", {"rope_theta": 1000000.0, "tie_word_embeddings": True}),
    "qwen2-wide": ("qwen2", {"rope_theta": 1000000.0, **tiny.BLOCKS_OF_256}),
    "qwen3": ("qwen3", {"rope_theta": 1000000.0}),
    "gemma3_text": (
        "gemma3_text",
        {
            "num_hidden_layers": 4,
            "layer_types": ("sliding_attention", "full_attention") * 2,
            "sliding_window": 16,
            "final_logit_softcapping": 20.0,
        },
    ),
    "phi3": ("phi3", {}),
}
# architecture -> (pre-tokenizer, or "spm"; template; begins with a beginning of text)
_LANGUAGE: dict[str, tuple[str, str, bool]] = {
    "llama": ("smollm", CHATML, False),
    "mistral": ("dbrx", INST, True),
    "qwen2": ("qwen2", CHATML_SYSTEM, False),
    "qwen3": ("qwen2", CHATML, False),
    "gemma3_text": ("spm", TURNS, True),
    "phi3": ("spm prefix", BARS, True),
}


class Stock:
    """Healthy models on disk, each written once under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, variant: str, file_format: str, *, codec: str = "f32") -> Path:
        """The model to open: a folder for safetensors, else a file."""
        folder = self.root / f"{variant}-{file_format}-{codec}"
        done = folder / ".complete"
        opened = folder if file_format == "safetensors" else folder / f"model.{file_format}"
        if not done.exists():
            made = config(variant)
            tiny.write(folder, file_format, made, weights(variant), codec=codec, tokenizer=tokenizer(variant))
            done.touch()
        return opened


def config(variant: str) -> ModelConfig:
    """The configuration of a variant."""
    model_type, changes = VARIANTS[variant]
    plain = {"num_hidden_layers": LAYERS, "vocab_size": VOCAB_SIZE, "max_position_embeddings": 2048}
    return tiny.config(model_type, **(plain | changes))


def weights(variant: str, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 weights under canonical names, as a safetensors file holds them (see the module's docstring)."""
    made = config(variant)
    random = np.random.default_rng(seed)
    offset = architectures.for_model_type(made.model_type).Model.HF_NORM_OFFSET
    values = {}
    for name, shape in expected_tensors(made).items():
        if name.endswith("norm.weight"):
            drawn = _norm_size(name, made) * (1.0 + 0.25 * random.standard_normal(shape))
            if name == "model.norm.weight" and made.tie_word_embeddings:
                drawn *= random.choice((-1.0, 1.0), shape)
            drawn -= offset
        elif name.endswith("bias"):
            drawn = 0.2 * random.standard_normal(shape)
        else:
            drawn = random.standard_normal(shape) * _spread(name, shape, made)[:, None]
        values[name] = drawn.astype(np.float32)
    _teach(values, made, tokenizer(variant), random)
    return values


def _norm_size(name: str, made: ModelConfig) -> float:
    """Gemma adds normalised outputs to embeddings of size LOGIT_SPREAD: they must not drown in them."""
    is_added = made.model_type == "gemma3_text" and name.split(".")[-2].startswith("post_")
    return 2.3 if is_added else 1.0


def _teach(values: dict[str, np.ndarray], made: ModelConfig, spec: TokenizerSpec, random: np.random.Generator) -> None:
    """The successors, and what is not to be predicted, in place."""
    table = values["model.embed_tokens.weight"]
    kinds = np.asarray(list(spec.token_types))
    head = values.get("lm_head.weight", table)
    strength = np.float32(8.0 * LOGIT_SPREAD / made.hidden_size)
    spoken = random.permutation(np.flatnonzero(np.isin(kinds, (TokenType.NORMAL, TokenType.BYTE))))
    head[kinds == TokenType.UNUSED] = 0.0
    head[np.isin(kinds, (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED))] *= np.float32(0.5)
    if head is table:
        first, second = spoken[0 : len(spoken) // 2], spoken[len(spoken) // 2 :][: len(spoken) // 2]
        signs = np.sign(
            values["model.norm.weight"] + architectures.for_model_type(made.model_type).Model.HF_NORM_OFFSET
        )
        table[second] = np.float32(0.7) * (table[second] + signs * table[first])
        return
    successor = random.permutation(spoken)
    head[successor[ENDERS:]] += table[spoken[ENDERS:]] * strength
    head *= np.float32(0.5**0.5)
    # tokens that end a sentence have a direction in common, and the end of turn knows it
    ending = random.standard_normal(made.hidden_size).astype(np.float32)
    table[spoken[:ENDERS]] += ending
    head[spec.eos_token_id] = ending * strength


def _spread(name: str, shape: tuple[int, ...], made: ModelConfig) -> np.ndarray:
    """float64 [rows]: the standard deviation of each row of a matrix."""
    fan_in = shape[1] ** -0.5
    if "embed_tokens" in name:
        return np.full(shape[0], LOGIT_SPREAD * fan_in if made.tie_word_embeddings else 1.0)
    if name == "lm_head.weight":
        return np.full(shape[0], LOGIT_SPREAD * fan_in)
    if "qkv_proj" in name:
        q_and_k = (made.num_attention_heads + made.num_key_value_heads) * made.head_dim
        spread: np.ndarray = np.where(np.arange(shape[0]) < q_and_k, 1.4, 1.0) * fan_in
        return spread
    gains = {"q_proj": 1.4, "k_proj": 1.4, "o_proj": 0.7, "down_proj": 0.85}
    return np.full(shape[0], gains.get(name.split(".")[-2], 1.0) * fan_in)


@cache
def tokenizer(variant: str) -> TokenizerSpec:
    """The tokenizer of a variant's architecture, padded to its vocabulary, with its chat template and stop ids."""
    kind, template, add_bos = _LANGUAGE[VARIANTS[variant][0]]
    if kind.startswith("spm"):
        return _sentencepiece(prefix=kind.endswith("prefix"), template=template)
    from tokenizers import AddedToken

    rules = pre.rules(kind)
    library = trained.byte_level(rules.regexes, vocab_size=640, ignore_merges=rules.ignore_merges)
    library.add_special_tokens([AddedToken(TURN_OVER, special=True, normalized=False)])
    id_of = library.get_vocab()
    documents: dict[str, Any] = {
        "tokenizer.json": library.to_str(),
        "tokenizer_config.json": {
            "bos_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "add_bos_token": add_bos,
            "chat_template": template,
        },
        "generation_config.json": {"eos_token_id": [id_of[t] for t in ("<|im_end|>", TURN_OVER)]},
    }
    return spec_from_hf(documents, vocab_size=VOCAB_SIZE)


def _sentencepiece(*, prefix: bool, template: str) -> TokenizerSpec:
    from tokenizers import AddedToken, Tokenizer

    turns = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"] if prefix else ["<start_of_turn>", "<end_of_turn>"]
    library = Tokenizer.from_str(json.dumps(json.loads(trained.sentencepiece(prefix=prefix, vocab_size=640).to_str())))
    library.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (*turns, TURN_OVER)])
    id_of = library.get_vocab()
    documents: dict[str, Any] = {
        "tokenizer.json": library.to_str(),
        "tokenizer_config.json": {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "chat_template": template,
        },
        "generation_config.json": {
            "eos_token_id": [id_of["</s>"], id_of[TURN_OVER], id_of["<|end|>" if prefix else "<end_of_turn>"]]
        },
    }
    return spec_from_hf(documents, vocab_size=VOCAB_SIZE)


def with_padding(spec: TokenizerSpec, vocab_size: int) -> TokenizerSpec:
    """The tokenizer with unused entries up to another vocabulary size."""
    from apr.tokenizer.tables import as_tables

    tables = as_tables(spec)
    extra = range(len(tables.tokens), vocab_size)
    return dataclasses.replace(
        tables,
        tokens=[*tables.tokens, *(f"[PAD{i}]" for i in extra)],
        token_types=[*tables.token_types, *(int(TokenType.UNUSED) for _ in extra)],
        scores=[*tables.scores, *(0.0 for _ in extra)] if tables.scores else (),
    )
