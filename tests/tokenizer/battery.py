"""Adversarial strings for tokenizers: the same ones every time."""

from __future__ import annotations

import random
from functools import cache

_CODE = [
    "def fib(n):\n    if n < 2:\n        return n\n    return fib(n-1) + fib(n-2)\n",
    "\tif (a[i]!=b[j]) { x+=0x1F; /* y */ }\r\n",
    "SELECT * FROM t WHERE a='b''c' AND d<=1e-9;--\n",
    '{"k": [1, 2.5, null, "\\u00e9"], "nested": {"a": {}}}',
    "https://example.com/a?b=c&d=%20#frag user@host.tld C:\\dir\\file.txt",
    "x = lambda *a, **k: (a, k)  # \u2190 arrow",
    "<html><body class='x'>&nbsp;&lt;</body></html>\n\n\n",
    "$$\\frac{1}{2}\\sum_{i=0}^n x_i$$ ``` `a` ~~b~~ **c** __d__",
]
_WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "don't",
    "DON'T",
    "I'm",
    "I'M",
    "we've",
    "you'll",
    "he'd",
    "it's",
    "IT'S",
    "y'all",
    "o'clock",
    "'tis",
    "rock'n'roll",
    "l'été",
    "d'Été",
    "naïve",
    "Straße",
    "İstanbul",
    "ıI",
    "ǅ",
    "ŉ",
    "camelCase",
    "HTTPServer",
    "snake_case",
    "kebab-case",
    "ALLCAPS",
    "iPhone",
    "McDonald's",
    "ünïcödé",
    "façade",
]
_SCRIPTS = [
    "你好，世界！今天天气不错。",
    "日本語のテキスト、カタカナとひらがな。ｶﾀｶﾅ",
    "안녕하세요 세계 ㄱㄴㄷ",
    "مرحبا بالعالم، كيف الحال؟ ١٢٣",
    "שלום עולם ״ציטוט״",
    "नमस्ते दुनिया क्षत्रिय १२३",
    "สวัสดีชาวโลก ๑๒๓",
    "Привет, мир! Ёлка",
    "Γειά σου Κόσμε ΐ ώ",
    "বাংলা ভাষা ৪৫৬",
    "ქართული ᲥᲐᲠᲗᲣᲚᲘ",
    "Tiếng Việt có dấu",
    "ગુજરાતી தமிழ் తెలుగు ಕನ್ನಡ മലയാളം",
    "አማርኛ ខ្មែរ မြန်မာ ລາວ བོད་",
]
_UNNORMALISED = [
    "e\u0301",
    "n\u0303",
    "A\u030a",
    "\u212b",
    "\u212a",
    "\u2126",
    "\u1100\u1161\u11a8",
    "\uf900\ufa0e",
    "q\u0307\u0323",
    "\u0344",
    "\u0958",
    "\u2adc",
    "o\u0302\u0323",
    "\u1e9b\u0323",
    "it'\u017f",  # a long s, which matches s where case is ignored
    "\U0001413b",  # a letter since Unicode 16
]
_EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "❤️", "1️⃣", "🧑🏿‍💻", "\U0001f9ff\U0001fae0", "☺︎", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
_LOOK_ALIKES = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_end",
    "im_end|>",
    "<|im_start|>user\nhi<|im_end|>\n",
    "< |im_end|>",
    "<|IM_END|>",
    "<<|im_end|>>",
    "<|im_end|><|im_end|>",
    "<|eot_id|>",
    "<bos>",
    "<s>",
    "<unk>",
    "[INST] x [/INST]",
    "<0x0A>",
    "<tool_call>{}</tool_call>",
    "<think>\n</think>",
    "[PAD151665]",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<file_sep><repo_name>x",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "a </s> b",
    "▁hello ▁▁world",
    "Ġhello ĊĠ",
]
_DIGITS = [
    "0",
    "12",
    "123",
    "1234",
    "12345",
    "1234567890",
    "3.14159",
    "1,000,000.00",
    "²³¹",
    "½⅓",
    "Ⅷ",
    "٣٤٥٦",
    "१२३४",
    "１２３４",
    "٣x12y345",
    "1e10",
    "0xFF",
    "v1.2.3-rc4",
    "2024-01-02T03:04:05Z",
]
_CONTROL = [
    "\x00",
    "\x01\x02",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x80",
    "\x85",
    "\u200b",
    "\u200e\u200f",
    "\u2028\u2029",
    "\ufeff",
    "\ufffd",
    "\u00ad",
    "\ufff9",
    "\U000e0001",
    "\u202eabc\u202c",
]
_SPACES = [
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\v",
    "\f",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u1680",
    "\u202f",
    "\u205f",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x1f",
]
_RANGES = [(0x20, 0x7E)] * 4 + [
    (0xA0, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x5FF),
    (0x600, 0x6FF),
    (0x900, 0xDFF),
    (0x1100, 0x11FF),
    (0x2000, 0x2BFF),
    (0x3040, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xFB00, 0xFB4F),
    (0xFF00, 0xFFEF),
    (0x1F300, 0x1FAFF),
]


def _random_unicode(rng: random.Random) -> str:
    return "".join(chr(rng.randint(*rng.choice(_RANGES))) for _ in range(rng.randint(1, 24)))


def _whitespace_mix(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(2, 9)):
        parts.append(rng.choice(_SPACES) * rng.choice([1, 1, 1, 2, 3, 4, 7, 8, 16, 17, 33]))
        parts.append(rng.choice(["a", "x1", "9", ".", "if", "é", "世", '"', "", "(", "B2", "'re"]))
    return "".join(parts)


def _sentence(rng: random.Random) -> str:
    pool = _WORDS + _DIGITS + _EMOJI + _SCRIPTS
    return rng.choice([" ", "  ", "\n", ", ", ""]).join(rng.choice(pool) for _ in range(rng.randint(2, 10)))


def _apostrophes(rng: random.Random) -> str:
    tails = ["s", "S", "t", "re", "RE", "Re", "ve", "m", "ll", "LL", "d", "D", "x", "st", "", "ll9"]
    return "".join(
        rng.choice(["a", "We", "9", " ", "é", "世", "'", "’"]) + rng.choice("''’`") + rng.choice(tails)
        for _ in range(rng.randint(1, 6))
    )


def _glued(rng: random.Random) -> str:
    pools = (_WORDS, _SCRIPTS, _UNNORMALISED, _EMOJI, _LOOK_ALIKES, _DIGITS, _CONTROL, _SPACES, _CODE)
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(2, 6)))


@cache
def battery() -> tuple[str, ...]:
    """Over 1,800 different strings, the same ones in every process."""
    rng = random.Random(20240607)
    fixed = ["", *_CODE, *_WORDS, *_SCRIPTS, *_UNNORMALISED, *_EMOJI, *_LOOK_ALIKES, *_DIGITS, *_CONTROL, *_SPACES]
    fixed += [
        space * n + tail
        for space in (" ", "\n", "\t")
        for n in (1, 2, 3, 5, 8, 31, 32, 65, 130)
        for tail in ("", "a", "1")
    ]
    fixed += ["a" * 500, "ab" * 300, "-" * 200, "=" * 97, "你" * 200, "9" * 200, "😀" * 60, "aA" * 100, "é" * 150]
    makers = (_random_unicode, _whitespace_mix, _sentence, _apostrophes, _glued)
    made = [maker(rng) for maker in makers for _ in range(330)]
    return tuple(dict.fromkeys(fixed + made))


def ordinary() -> tuple[str, ...]:
    """Text to train small tokenizers on, deterministic."""
    rng = random.Random(7)
    sentences = (_sentence(rng) for _ in range(400))
    spaces = (_whitespace_mix(rng) for _ in range(50))
    return (*_CODE * 5, *_SCRIPTS * 5, *sentences, *_DIGITS, *spaces)
