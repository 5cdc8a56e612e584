"""Texts and conversations on which two tokenizers, or two templates, part company if they differ at all.

A converter that knew a tokenizer by the ids of one sentence mistook one family for another, so there are many texts,
and each group is of one known fault: digits in runs, spaces in runs, contractions, marks that compose, look-alikes of
control tokens, a space behind a special token. Written for this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# templates that write the date are given this one, so that two renderings can be compared
NOW = datetime(2024, 7, 26, 12, 0, 0)

_PLAIN = (
    "Hello",
    "Hello world",
    " Hello",
    "  Hello",
    "Hello ",
    "Hello  world",
    "This",
    " This",
    "this",
    "THIS",
    "tHiS",
    "The quick brown fox jumps over the lazy dog.",
    "The capital of France is",
    "internationalization antidisestablishmentarianism",
    "CamelCase camelCase snake_case kebab-case SCREAMING_SNAKE",
    "iPhone McDonald eBay LaTeX GmbH",
    "HTTPServer2XMLParser",
    "Wait... what?! No -- really?",
    "(a) [b] {c} <d> \u201ce\u201d \u2018f\u2019 \u00abg\u00bb",
    "e.g. i.e. etc. Mr. Dr. U.S.A.",
    "foo@example.com https://example.org/a/b?c=d&e=%20#f",
    "C:\\Users\\name /usr/local/bin ../x ./y ~/z",
    "----------------------------------------",
    "********** ========== ########## ..........",
    "!!!???!?!",
    "\u2014 \u2013 - \u2010 \u2011 \u2012",
    "\u2026 ... \u00b7 \u2022 \u25cf",
    "$5 \u20ac10 \u00a33 \u00a57 50% 20\u00b0C 3\u00d74 1/2 \u00bd",
    "a",
    "A",
    ".",
    "",
)
_DIGITS = (
    "0",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "1234567",
    "1234567890",
    "3.14159265358979",
    "1,234,567.89",
    "1.000.000,00",
    "-273.15",
    "0x1F600 0b1010 0o755 1e-9 6.02E+23",
    "2024-07-26T12:34:56Z",
    "+49 (0)30 123456-78",
    "v1.2.3-rc4+build.56",
    "10th 2nd 3rd 1st",
    "a1b2c3d4 x86_64 utf8 h264 B2B",
    "\u0661\u0662\u0663\u0664 \u0967\u0968\u0969 \u0e51\u0e52\u0e53",
    "\u2160\u2161\u2162 \u2460\u2461 \u00b2\u00b3 \u215b",
    "\uff11\uff12\uff13\uff14",
    "192.168.0.1:8080",
)
_SPACES = (
    " ",
    "  ",
    "   ",
    "    ",
    "        ",
    "                ",
    "\t",
    "\t\t\t",
    "\n",
    "\n\n",
    "\n\n\n\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    " \n",
    "\n ",
    " \n \n ",
    "\t\n\t",
    "a\n\n\nb",
    "a \n b",
    "a\n  b\n    c",
    "line one\nline two\r\nline three\rline four",
    "trailing spaces   \nnext",
    "x\u00a0y\u00a0\u00a0z",
    "thin\u2009space\u200aem\u2003ideographic\u3000end",
    "zero\u200bwidth\u200cjoin\u200dmark\ufeff",
    "vertical\x0btab\x0cfeed\x85next\u2028line\u2029para",
    "tabs\tbetween\twords",
    "   leading and trailing   ",
)
_CONTRACTIONS = (
    "I'm you're he'll she'd we've it's don't can't",
    "I'M YOU'RE HE'LL SHE'D WE'VE IT'S DON'T CAN'T",
    "'S 's 'T 't 'RE 're",
    "I\u2019m you\u2019re don\u2019t",
    "rock'n'roll o'clock 'tis y'all'd've",
    "the dogs' bones, James's book",
    "l'homme qu'il aujourd'hui d'accord",
    "''quoted'' 'single' `code`",
)
_SCRIPTS = (
    "\u00dcbung macht den Meister. Stra\u00dfe, \u00c4pfel, \u00f6de.",
    " Caf\u00e9",
    "na\u00efve r\u00e9sum\u00e9 d\u00e9j\u00e0 vu \u0153uvre",
    "\u0141\u00f3d\u017a \u017b\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144",
    "\u010ce\u0161tina p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "\u0130stanbul \u0131\u015f\u0131k \u011f\u00fc\u015f\u00f6\u00e7",
    "Ti\u1ebfng Vi\u1ec7t c\u00f3 d\u1ea5u",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u041a\u0430\u043a \u0434\u0435\u043b\u0430?",
    "\u0423\u043a\u0440\u0430\u0457\u043d\u0441\u044c\u043a\u0430 \u043c\u043e\u0432\u0430 \u0491\u0454\u0456\u0457",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0643\u064a\u0641 \u062d\u0627\u0644\u0643\u061f",
    "\u0641\u0627\u0631\u0633\u06cc \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u09ac\u09be\u0982\u09b2\u09be \u09ad\u09be\u09b7\u09be",
    "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0bae\u0bca\u0bb4\u0bbf",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u1019\u103c\u1014\u103a\u1019\u102c\u1018\u102c\u101e\u102c",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
    "\u7e41\u9ad4\u4e2d\u6587\u6e2c\u8a66\u300c\u5f15\u865f\u300d",
    "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u3068\u6f22\u5b57",
    "\uff76\uff80\uff76\uff85 \uff21\uff22\uff23\uff41\uff42\uff43",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4",
    "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0 \u0532\u0561\u0580\u0587",
    "\u12a0\u121b\u122d\u129b \u1323\u12d5\u121d",
    "\U00010330\U0001033f\U00010344 \U0001d400\U0001d401\U0001d402 \U00020000\U0002a6d6",
    "mixed\u6df7\u5408\u0441\u043c\u0435\u0441\u044c123\u0645\u062e\u062a\u0644\u0637",
)
_MARKS = (
    "e\u0301 a\u0308 n\u0303 c\u0327",  # decomposed
    "\u00e9 \u00e4 \u00f1 \u00e7",  # the same, composed
    "Cafe\u0301 re\u0301sume\u0301",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",  # Hangul, decomposed
    "\u212b \u2126 \u212a",  # letters that composition replaces
    "\ufb01 \ufb02 \u0132 \u01c4",
    "a\u0323\u0302 \u1ead a\u0302\u0323",  # the order of marks
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324a\u0338\u0318l\u0327g\u0322o",
    "\u0301 alone",
    "\u05d1\u05b0\u05bc\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea",
)
_EMOJI = (
    "\U0001f642",
    "\U0001f642\U0001f642\U0001f642",
    "hi\U0001f44b\U0001f3fd there",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f9d1\U0001f3ff\u200d\U0001f680",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ef\U0001f1f5",
    "1\ufe0f\u20e3 #\ufe0f\u20e3 \u2764\ufe0f \u2764",
    "\u2211\u222b\u221a\u221e\u2248\u2260\u2264\u2265\u2208\u2200\u2203",
    "\u2190\u2191\u2192\u2193 \u2580\u2584\u2588 \u250c\u2500\u2510",
    "\ufffd \ue000 \U000f0001",
)
_CODE = (
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; }",
    "\tif x == y:\n\t\tprint(f'{x!r:>10}')\n",
    "SELECT * FROM t WHERE a='b' AND c <> 3; -- comment",
    '{"key": [1, 2.5, null, true], "s": "a\\nb"}',
    '<div class="x"><p>text</p></div><!-- c -->',
    "let f = |x: &str| -> Option<u8> { x.parse().ok() };",
    "#include <stdio.h>\n#define N (1<<10)\n",
    "a->b::c.d[e](f)?g:h&&i||!j^k~l%m",
    "x=1;y=2;z=x+y#no spaces",
    "'''doc''' \"\"\"doc\"\"\" ``` ```python\ncode\n```",
    "0.1+0.2!=0.3//true",
    "regex: ^\\s*(?:[A-Z]{2,})\\d+$",
    "\\begin{equation} \\frac{a}{b} \\end{equation}",
    "| a | b |\n| --- | ---: |\n| 1 | 2 |\n",
    "            deeply_indented()\n",
)
_LOOK_ALIKES = (
    "<|im_start|>",
    "<|im_start|>user",
    "<|im_end|>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|begin_of_text|>hello",
    "<s>hello</s>",
    "[INST] hi [/INST]",
    "<start_of_turn>user\nhi<end_of_turn>\n",
    "<|user|>\nhi<|end|>\n<|assistant|>\n",
    "<bos><eos><pad><unk>",
    "<think>\nhm\n</think>\n",
    "<tool_call>{}</tool_call>",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<0x41><0x0A>",
    "\u2581word \u2581\u2581two",
    "\u0120word \u010a",
    "<|im_start |> < |im_end|> <|im_end",
    "[PAD151700] <unused0> <|reserved_special_token_0|>",
    "<|vision_start|><|image_pad|><|box_start|>",
    "##word [CLS] [SEP] [MASK]",
)

TEXTS: tuple[str, ...] = (
    *_PLAIN,
    *_DIGITS,
    *_SPACES,
    *_CONTRACTIONS,
    *_SCRIPTS,
    *_MARKS,
    *_EMOJI,
    *_CODE,
    *_LOOK_ALIKES,
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation, and the tools that the template is told of."""

    id: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()


def _talk(name: str, *turns: tuple[str, str]) -> Conversation:
    return Conversation(name, tuple({"role": role, "content": content} for role, content in turns))


_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
_CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"place": "Bergen"}}}

CONVERSATIONS: tuple[Conversation, ...] = (
    _talk("one turn", ("user", "What is 2+2?")),
    _talk("system", ("system", "You answer in one word."), ("user", "What is the capital of Norway?")),
    _talk(
        "three turns", ("user", "My boat is called Annelise."), ("assistant", "Noted."), ("user", "What is it called?")
    ),
    _talk(
        "five turns after a system message",
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
        ("user", "five"),
    ),
    _talk("empty content", ("user", "")),
    _talk("empty system message", ("system", ""), ("user", "Hi")),
    _talk("scripts", ("user", "\u00dcbersetze: \u00abGuten Morgen, \u6771\u4eac!\u00bb \U0001f642 e\u0301")),
    _talk("answer last", ("user", "Count to three."), ("assistant", "One, two,")),
    _talk("spaces around", ("user", "  \n two blanks, a newline, and more behind \n\n ")),
    _talk("spaces around an answer", ("user", "Go on."), ("assistant", "  yes \n"), ("user", " and? ")),
    _talk("code", ("user", "Fix this:\n\n```python\nfor i in range(3) :\n\tprint( i )\n```\n")),
    _talk("look-alikes", ("user", "Ignore <|im_end|> and <|eot_id|> and </s> and <end_of_turn> and <|end|> here.")),
    _talk("reasoning", ("user", "Why?"), ("assistant", "<think>\nhm\n</think>\n\nBecause."), ("user", "And then?")),
    _talk("braces", ("user", "{{ bos_token }} {% raw %} ${x} \\n 'quoted' \"twice\" & <b>")),
    Conversation("tool", ({"role": "user", "content": "What is the weather in Bergen?"},), tools=(_WEATHER,)),
    Conversation(
        "tool answer",
        (
            {"role": "user", "content": "What is the weather in Bergen?"},
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "name": "get_weather", "content": '{"sky": "rain"}'},
        ),
        tools=(_WEATHER,),
    ),
)
