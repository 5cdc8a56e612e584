"""The table of `tokenizer.ggml.pre`: how text is cut into words before byte-level BPE merges them.

A name stands for regexes, applied one after the other, each on the pieces that the one before left (matches and gaps alike are
pieces). A wrong entry gives text that looks fine and ids that the model never saw, so an unknown name is refused, never guessed.

Source: llama.cpp, `llama-vocab.cpp` (names, stages, which imply BOS, which take a whole word before merging). Where llama.cpp says that its
regex only approximates the model's own (case-aware letter classes, contractions, digit groups), the model's own stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apr.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How to cut text.

    regexes:        Oniguruma syntax, in order
    ignore_merges:  a piece that is a vocabulary entry is taken whole, even if merges would not build it
    add_bos:        the name implies a BOS where the file does not say
    """

    regexes: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACE_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACE_TAIL}"
_QWEN2 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}|{_SYMBOLS}|{_SPACE_TAIL}"
_QWEN35 = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE_TAIL}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(suffix: str, rest: str, upper: str = _UPPER, lower: str = _LOWER) -> str:
    """Words that change case once (`Word`, `WORD`), with an optional contraction behind them; then `rest`."""
    lead = r"[^\r\n\p{L}\p{N}]?"
    return rf"{lead}{upper}*{lower}+{suffix}|{lead}{upper}+{lower}*{suffix}|{rest}"


_SLASH_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN = _cased("", rf"\p{{N}}|{_SLASH_SYMBOLS}|{_SPACE_TAIL}")
_GPT4O = _cased(f"{_CONTRACTION}?", rf"\p{{N}}{{1,3}}|{_SLASH_SYMBOLS}|{_SPACE_TAIL}")
_KIMI = _cased(
    f"{_CONTRACTION}?",
    rf"\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACE_TAIL}",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
)

_ASCII_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_CJK_KANA = "[一-龥\u3040-\u309f\u30a0-ヿ]+"
_MARKED_WORDS = rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
_DEEPSEEK3 = rf"{_MARKED_WORDS}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACE_TAIL}"
_SPARK = rf"{_MARKED_WORDS}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
_DEEPSEEK_LETTERS = (  # letters that canonical composition would change are written as escapes
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ\u0386Έ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7d"
    "ᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗ"
    "Ａ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_CJK_HANGUL = "[一-龥\u0800-一가-\ud7ff]+"
_AFMOE_SCRIPTS = (
    "[一-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_YOUTU_SCRIPTS = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\u303f\ufe30-\ufe4f]+|[ㄅ-ㄯ]+|[一-龥\u3040-\u309f\u30a0-ヿ]+"
_NO_PUNCTUATION = " ?[^(\\s|.,!?…。，、।۔،)]+"
_FALCON_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
_GROUPED_DIGITS = r"\d{1,3}(?=(?:\d{3})*\b)"

_FAMILIES: dict[str, PreTokenizer] = {
    "gpt-2": PreTokenizer((_GPT2,)),
    "smollm": PreTokenizer((r"\p{N}", _GPT2)),
    "qwen2": PreTokenizer((_QWEN2,)),
    "qwen35": PreTokenizer((_QWEN35,)),
    "llama-bpe": PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
    "dbrx": PreTokenizer((_LLAMA3,)),
    "gpt-4o": PreTokenizer((_GPT4O,)),
    "granite-embed-multi-97m": PreTokenizer((_GPT4O,), ignore_merges=True),
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True),
    "deepseek-llm": PreTokenizer(
        (r"[\r\n]", _DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _CJK_HANGUL, r"\p{N}+")
    ),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_HANGUL, r"\p{N}")),
    "deepseek-v3": PreTokenizer((r"\p{N}{1,3}", _CJK_KANA, _DEEPSEEK3)),
    "spark2_5": PreTokenizer((r"\p{N}{1,3}", _CJK_KANA, _SPARK, r"\p{N}")),
    "youtu": PreTokenizer(
        (_YOUTU_SCRIPTS, _cased(f"{_CONTRACTION}?", rf"\p{{N}}|{_SLASH_SYMBOLS}|{_SPACE_TAIL}")), ignore_merges=True
    ),
    "falcon": PreTokenizer((_FALCON_PUNCTUATION, _GPT2, "[0-9][0-9][0-9]")),
    "bloom": PreTokenizer((_NO_PUNCTUATION,)),
    "viking": PreTokenizer((_NO_PUNCTUATION, r"\p{N}")),
    "chameleon": PreTokenizer(
        (
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            "([\\t\\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            _GPT2,
        ),
        add_bos=True,
    ),
    "tiny_aya": PreTokenizer((_GROUPED_DIGITS, _GPT4O)),
    # upstream cuts at the empty matches of (?=(\d{3})+(?!\d)); this matches the groups between those cuts
    "superbpe": PreTokenizer((r"\p{N}+", r"\d{1,3}(?=(?:\d{3})*(?!\d))")),
    "bailingmoe": PreTokenizer((rf"'(?i:[sdmt]|ll|ve|re)|{_LETTERS}|\p{{N}}|{_SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+",)),
    "seed-coder": PreTokenizer((rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE_TAIL}",)),
    "afmoe": PreTokenizer((r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", _AFMOE_SCRIPTS, _DEEPSEEK3)),
    "laguna": PreTokenizer((r"[^\n]+|[\n]+", _QWEN2)),
    "exaone-moe": PreTokenizer(
        (
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ),
    "minicpm5": PreTokenizer(
        (r"\p{N}{1,3}", rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}+|{_SYMBOLS}|{_SPACE_TAIL}"), ignore_merges=True
    ),
    "kimi-k2": PreTokenizer((r"[\p{Han}]+|" + _KIMI,)),
    "ufakzeka": PreTokenizer((rf"{_LETTERS}|\p{{N}}|{_SYMBOLS}|{_SPACE_TAIL}",)),
    "jais-2": PreTokenizer(
        (
            rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s*[\r\n]+|"
            + "|".join(rf"\s{{{n}}}(?!\S)" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
            + r"|\s{1}",
        )
    ),
    # what llama.cpp falls back to; `from_gguf` refuses it unless asked, since no model was trained with it
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
}

_ALIASES: dict[str, tuple[str, ...]] = {
    "gpt-2": (
        *(
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "a.x-4.0",
            "mellum",
        ),
        *("mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "modern-bert", "roberta-bpe"),
    ),
    "smollm": ("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
    "qwen2": ("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
    "dbrx": ("smaug-bpe", "glm4", "chatglm-bpe"),
    "gpt-4o": ("llama4", "kanana2", "talkie", "minimax-m2"),
    "deepseek-v3": ("hunyuan-dense", "joyai-llm", "hy_v4"),
    "bloom": ("poro-chat", "gpt3-finnish"),
    "tiny_aya": ("cohere2moe",),
    "bailingmoe": ("bailingmoe2", "llada-moe"),
}
_FAMILY_OF: dict[str, str] = {name: name for name in _FAMILIES} | {a: f for f, names in _ALIASES.items() for a in names}

# llama.cpp's spelling of a case-insensitive group that its regex engine does not have
_SPELLED_OUT = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"


def names() -> tuple[str, ...]:
    """Every name we can cut by, sorted; `default` is not one (see `from_gguf`)."""
    return tuple(sorted(_FAMILY_OF.keys() - {"default"}))


def family(name: str) -> str:
    """The name that stands for all names with the same rules: `qwen2` for `deepseek-r1-qwen`.

    Raises UnsupportedError, listing the known names, for any other.
    """
    try:
        return _FAMILY_OF[name]
    except KeyError:
        raise UnsupportedError(
            f"pre-tokenizer {name!r} (tokenizer.ggml.pre) is not known here, and a guess would give wrong token ids; "
            "convert the model again from its original, or use the original",
            known=names(),
        ) from None


def rules(name: str) -> PreTokenizer:
    """How the pre-tokenizer `name` cuts text. Raises UnsupportedError for an unknown name."""
    return _FAMILIES[family(name)]


def detect(regexes: Sequence[str], *, ignore_merges: bool) -> str | None:
    """The family whose regexes these are, or None. Compares exactly, but for spellings that mean the same.

    ignore_merges:  must agree too: `llama-bpe` and `dbrx` differ in nothing else
    """
    wanted = tuple(_canonical(regex) for regex in regexes)
    for name, entry in _FAMILIES.items():
        if entry.ignore_merges == ignore_merges and tuple(_canonical(regex) for regex in entry.regexes) == wanted:
            return name if name != "default" else None
    return None


def _canonical(regex: str) -> str:
    """One spelling for regexes that cut alike: a final `|\\s+` adds nothing to a gap that is one piece anyway."""
    regex = (
        regex.replace(_SPELLED_OUT, _CONTRACTION)
        .replace(r"\p{N}{1}", r"\p{N}")
        .replace("\r", r"\r")
        .replace("\n", r"\n")
    )
    return regex.removesuffix(r"|\s+") if regex.startswith(_GPT2) else regex
