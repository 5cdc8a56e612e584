"""Texts that are healthy however much they repeat, and texts that are degenerate, made on the spot from a seed.

Healthy ones are taken from what every machine with Python has (the sources, docstrings and language reference of the
standard library), from this repository's own pages, and from generators of what repeats by nature: tables, rules, numbers,
JSON, CSV, base64, dumps, logs, enumerations, refrains, scripts of other languages. Degenerate ones are loops of every
period with and without changing numbers, runs, drifts, misread bytes, echoes, token loops, and recorded outputs of real
models that were broken on purpose (`fixtures/degenerate_outputs.json`).
"""

from __future__ import annotations

import base64
import calendar
import itertools
import json
import pydoc_data.topics
import random
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORDED = Path(__file__).parent / "fixtures" / "degenerate_outputs.json"

LANGUAGES = {
    "russian": (
        "Вечером рыбаки вернулись в гавань и долго разбирали сети.",
        "Старый смотритель записал в журнал время, ветер и высоту воды.",
        "На рынке продавали яблоки, мёд и свежий хлеб.",
        "Дети бежали вдоль берега и считали корабли.",
        "Поезд опоздал на семь минут, но никто этого не заметил.",
        "Если ночью пойдёт снег, дорогу через перевал закроют.",
    ),
    "greek": (
        "Το απόγευμα οι ψαράδες γύρισαν στο λιμάνι και άπλωσαν τα δίχτυα.",
        "Ο φύλακας έγραψε στο βιβλίο την ώρα και τον άνεμο.",
        "Στην αγορά πουλούσαν μήλα, μέλι και φρέσκο ψωμί.",
        "Τα παιδιά έτρεχαν στην ακτή και μετρούσαν τα καράβια.",
        "Το τρένο άργησε επτά λεπτά, αλλά κανείς δεν το πρόσεξε.",
    ),
    "arabic": (
        "عاد الصيادون في المساء إلى الميناء ونشروا شباكهم على الرمل.",
        "كتب الحارس في دفتره الوقت واتجاه الريح وارتفاع الماء.",
        "كان الباعة في السوق يبيعون التفاح والعسل والخبز الطازج.",
        "ركض الأطفال على الشاطئ وهم يعدون السفن.",
        "تأخر القطار سبع دقائق ولم ينتبه أحد.",
    ),
    "hebrew": (
        "בערב חזרו הדייגים לנמל ופרשו את הרשתות על החול.",
        "השומר כתב ביומן את השעה ואת כיוון הרוח.",
        "בשוק מכרו תפוחים, דבש ולחם טרי.",
        "הילדים רצו לאורך החוף וספרו אוניות.",
    ),
    "chinese": (
        "傍晚，渔民们回到港口，把渔网晾在沙滩上。",
        "看守人在本子里写下时间、风向和水位。",
        "市场上有人卖苹果、蜂蜜和新鲜的面包。",
        "孩子们沿着海岸奔跑，数着来往的船只。",
        "火车晚点了七分钟，可是谁也没有注意到。",
        "如果夜里下雪，山口的路就会封闭。",
    ),
    "japanese": (
        "夕方、漁師たちは港に戻り、砂の上に網を広げた。",
        "番人は帳面に時刻と風向きと水位を書きとめた。",
        "市場ではりんごと蜂蜜と焼きたてのパンを売っていた。",
        "子どもたちは海岸を走りながら船を数えた。",
        "列車は七分遅れたが、だれも気づかなかった。",
    ),
    "korean": (
        "저녁이 되자 어부들은 항구로 돌아와 모래 위에 그물을 펼쳤다.",
        "등대지기는 공책에 시각과 바람과 물높이를 적었다.",
        "시장에서는 사과와 꿀과 갓 구운 빵을 팔았다.",
        "아이들은 바닷가를 달리며 배를 세었다.",
    ),
    "hindi": (
        "शाम को मछुआरे बंदरगाह लौटे और रेत पर जाल फैलाए।",
        "पहरेदार ने अपनी किताब में समय और हवा की दिशा लिखी।",
        "बाज़ार में सेब, शहद और ताज़ी रोटी बिक रही थी।",
        "बच्चे किनारे पर दौड़ते हुए जहाज़ गिन रहे थे।",
    ),
    "thai": (
        "ตอนเย็นชาวประมงกลับมาที่ท่าเรือและตากอวนไว้บนหาดทราย",
        "คนเฝ้าประภาคารจดเวลา ทิศลม และระดับน้ำลงในสมุด",
        "ที่ตลาดมีคนขายแอปเปิล น้ำผึ้ง และขนมปังสด",
    ),
    "german": (
        "Am Abend kehrten die Fischer in den Hafen zurück und hängten die Netze über die Mauer.",
        "Der Wärter schrieb Uhrzeit, Wind und Wasserstand in sein Heft; er tat es jeden Tag außer Sonntag.",
        "Auf dem Markt gab es Äpfel, Honig und frisches Brot.",
        "Der Zug hatte sieben Minuten Verspätung, und niemand bemerkte es.",
    ),
    "french": (
        "Le soir, les pêcheurs rentrèrent au port et étendirent leurs filets sur le sable.",
        "Le gardien notait l’heure, le vent et la hauteur de l’eau dans son cahier.",
        "Au marché, on vendait des pommes, du miel et du pain frais.",
        "Les enfants couraient le long de la côte et comptaient les bateaux.",
    ),
}
FOREIGN = ("russian", "greek", "arabic", "hebrew", "chinese", "japanese", "korean", "hindi", "thai")
_ENGLISH = (
    "In the evening the fishermen came back to the harbour and spread their nets on the sand.",
    "The keeper wrote the hour, the wind and the height of the water into his book.",
    "At the market they sold apples, honey and fresh bread.",
    "The children ran along the shore and counted the ships.",
    "The train was seven minutes late, and nobody noticed.",
    "If it snows tonight, the road over the pass will be closed.",
    "A function that returns nothing is still worth a test.",
    "She measured the interval twice and got the same figure both times.",
)
_VERSES = (
    "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\nLife is but a dream.\n",
    "London Bridge is falling down,\nFalling down, falling down.\nLondon Bridge is falling down,\nMy fair lady.\n",
    "This is the farmer sowing his corn,\nThat kept the cock that crowed in the morn,\nThat waked the priest all shaven and shorn,\n",
    "Baa, baa, black sheep,\nHave you any wool?\nYes, sir, yes, sir,\nThree bags full.\n",
    "And the raven, never flitting, still is sitting, still is sitting\nOn the pallid bust of Pallas just above my chamber door;\n",
    "The wheels on the bus go round and round,\nRound and round, round and round.\n"
    "The wheels on the bus go round and round,\nAll through the town.\n",
)
_NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gro", "Hans", "Ida", "Jon", "Kai", "Lea", "Mia", "Nils", "Ole", "Pia"]  # fmt: skip
_WORDS = ["wind", "water", "bread", "ship", "apple", "seven", "net", "road", "snow", "keeper", "book", "hour", "sand", "light", "honey", "market", "shore", "train"]  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A text with its kind, what it answers, and the tokens that it came in."""

    kind: str
    text: str
    prompt: str = ""
    token_ids: tuple[int, ...] = ()
    token_texts: tuple[str, ...] = ()


# ---- healthy


def clean(n: int, *, seed: int = 0) -> list[Sample]:
    """`n` healthy texts, of all kinds by turns."""
    kinds = (_source, _source, _docstring, _reference, _page, _table, _rules, _numbers, _data, _csv, _dump, _log)
    more = (_enumeration, _calendar, _verse, _language, _language, _bilingual, _indented, _config, _mathematics, _list)
    made = [kind(random.Random(f"{seed} {kind.__name__} {i}")) for i, kind in enumerate((*kinds, *more))]
    found: dict[str, Sample] = {}  # by text: none counts twice
    for turn in itertools.cycle(made):
        if len(found) >= n:
            break
        sample = next(turn)
        found.setdefault(sample.text, sample)
    return list(found.values())


Maker = Callable[[random.Random], Iterator[Sample]]


def _windows(kind: str, texts: list[str], draw: random.Random) -> Iterator[Sample]:
    while True:
        text = draw.choice(texts)
        size = draw.randint(200, 1600)
        at = draw.randrange(max(1, len(text) - size))
        at = text.rfind("\n", 0, at) + 1  # from the beginning of a line, as an answer begins
        if text[at : at + size].strip():
            yield Sample(kind, text[at : at + size])


def _files(folder: Path, pattern: str, n: int, draw: random.Random) -> list[str]:
    paths = sorted(path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size > 500)
    chosen = draw.sample(paths, min(n, len(paths)))
    return [path.read_text(encoding="utf-8", errors="replace") for path in chosen]


def _source(draw: random.Random) -> Iterator[Sample]:
    library = Path(sysconfig.get_path("stdlib"))
    texts = [text for pattern in ("*.py", "*/*.py") for text in _files(library, pattern, 120, draw)]
    return _windows("source", texts, draw)


def _docstring(draw: random.Random) -> Iterator[Sample]:
    import ast

    library = Path(sysconfig.get_path("stdlib"))
    found = []
    for text in _files(library, "*.py", 100, draw):
        tree = ast.parse(text)
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        found += [doc for node in nodes if (doc := ast.get_docstring(node)) and len(doc) > 120]
    while True:
        yield Sample("docstring", draw.choice(found)[:1600])


def _reference(draw: random.Random) -> Iterator[Sample]:
    return _windows("reference", list(pydoc_data.topics.topics.values()), draw)


def _page(draw: random.Random) -> Iterator[Sample]:
    texts = _files(ROOT, "*.md", 20, draw) + _files(ROOT / "docs", "*.md", 40, draw)
    return _windows("page", texts + _files(ROOT / "src" / "apr" / "parity", "*.py", 20, draw), draw)


def _sentences(draw: random.Random, n: int, language: str = "") -> str:
    of = LANGUAGES[language] if language else _ENGLISH
    return (" " if language not in ("chinese", "japanese") else "").join(draw.choices(of, k=n))


def _table(draw: random.Random) -> Iterator[Sample]:
    while True:
        columns, rows = draw.randint(2, 6), draw.randint(4, 18)
        same = draw.random() < 0.3
        head = "| " + " | ".join(draw.sample(_WORDS, columns)) + " |\n|" + " --- |" * columns + "\n"
        body = "".join(
            "| "
            + " | ".join(
                [draw.choice(_NAMES), *("0" if same else str(draw.randint(0, 99)) for _ in range(columns - 1))]
            )
            + " |\n"
            for _ in range(rows)
        )
        yield Sample("table", f"{_sentences(draw, 1)}\n\n{head}{body}")


def _rules(draw: random.Random) -> Iterator[Sample]:
    while True:
        sign = draw.choice("-=_*~#+.─═")
        rule = sign * draw.randint(12, 120)
        box = f"+{'-' * 30}+\n|{' ' * 30}|\n+{'-' * 30}+\n"
        toc = "".join(f"{name} {'.' * (60 - len(name))} {draw.randint(1, 99)}\n" for name in draw.sample(_NAMES, 6))
        middle = draw.choice([_sentences(draw, 2), box, toc])
        yield Sample("rules", f"{draw.choice(_WORDS).title()}\n{rule}\n\n{middle}\n{rule}\n")


def _numbers(draw: random.Random) -> Iterator[Sample]:
    makers: list[Callable[[], str]] = [
        lambda: ", ".join(str(i) for i in range(draw.randint(0, 9), draw.randint(30, 150))),
        lambda: "\n".join(str(draw.randint(0, 9)) for _ in range(60)),
        lambda: "[" + ", ".join(["0"] * draw.randint(8, 60)) + "]",
        lambda: "".join(draw.choices("01", k=200)),
        lambda: str(10 ** draw.randint(20, 40)) + " is a large number.",
        lambda: " ".join(f"{draw.random():.4f}" for _ in range(60)),
        lambda: "\n".join(" ".join(str(int(i == j)) for j in range(12)) for i in range(12)),
        lambda: (
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
        ),
        lambda: "\n".join(f"{a} × {b} = {a * b}" for a in range(1, 8) for b in range(1, 8)),
    ]
    while True:
        yield Sample("numbers", draw.choice(makers)())


def _data(draw: random.Random) -> Iterator[Sample]:
    while True:
        rows: list[dict[str, Any]] = [
            {"id": i, "name": draw.choice(_NAMES), "ok": True, "tags": [], "note": None}
            for i in range(draw.randint(3, 20))
        ]
        yield Sample("json", json.dumps(rows, indent=draw.choice([None, 2])))


def _csv(draw: random.Random) -> Iterator[Sample]:
    while True:
        fill = draw.choice(["0,0,0,0", "NA,NA,NA,NA", ",,,,", "1,2,3,4"])
        yield Sample(
            "csv",
            "day,name,a,b,c,d\n" + "".join(f"{i},{draw.choice(_NAMES)},{fill}\n" for i in range(draw.randint(5, 40))),
        )


def _dump(draw: random.Random) -> Iterator[Sample]:
    while True:
        raw = (
            bytes(draw.choices(range(256), k=120)) + bytes(draw.randint(0, 60)) + bytes(draw.choices(range(256), k=120))
        )
        hexed = "\n".join(f"{i:08x}  " + " ".join(f"{byte:02x}" for byte in raw[i : i + 16]) for i in range(0, 160, 16))
        arrays = "{" + ", ".join(f"0x{byte:02x}" for byte in raw[90:190]) + "}"
        yield Sample("dump", draw.choice([base64.b64encode(raw).decode(), hexed, repr(raw[80:200]), raw.hex(), arrays]))


def _log(draw: random.Random) -> Iterator[Sample]:
    while True:
        lines = [
            f"2024-03-{day:02d} 12:{draw.randint(10, 59)}:{draw.randint(10, 59)} {draw.choice(['INFO', 'WARN'])} "
            f"{draw.choice(_WORDS)} {draw.choice(_WORDS)} done in {draw.randint(1, 900)} ms"
            for day in range(1, draw.randint(6, 25))
        ]
        yield Sample("log", "\n".join(lines))


def _enumeration(draw: random.Random) -> Iterator[Sample]:
    while True:
        n = draw.randint(5, 20)
        makers: tuple[Callable[[int], str], ...] = (
            lambda i: f"Chapter {i}\n",
            lambda i: f"- [ ] {draw.choice(_WORDS)} {draw.choice(_WORDS)}\n",
            lambda i: f"{i}. {_ENGLISH[i % len(_ENGLISH)]}\n",
            lambda i: f"Figure {i}: the {draw.choice(_WORDS)}\n",
            lambda i: f"def test_{draw.choice(_WORDS)}_{i}(self):\n    self.assertEqual({i}, {draw.randint(0, 9)})\n\n",
        )
        maker = draw.choice(makers)
        yield Sample("enumeration", "".join(maker(i) for i in range(1, n)))


def _calendar(draw: random.Random) -> Iterator[Sample]:
    while True:
        yield Sample("calendar", calendar.TextCalendar().formatmonth(draw.randint(1950, 2050), draw.randint(1, 12)))


def _verse(draw: random.Random) -> Iterator[Sample]:
    while True:
        yield Sample("verse", "\n".join(draw.sample(_VERSES, draw.randint(1, 4))))


def _language(draw: random.Random) -> Iterator[Sample]:
    for language in itertools.cycle(LANGUAGES):
        # an endless text of so few sentences would be one that repeats itself
        of = draw.sample(LANGUAGES[language], draw.randint(1, len(LANGUAGES[language])))
        yield Sample(language, (" " if language not in ("chinese", "japanese") else "").join(of))


def _bilingual(draw: random.Random) -> Iterator[Sample]:
    while True:
        language = draw.choice(FOREIGN)
        sentence = draw.choice(LANGUAGES[language])
        prompt = f"Translate into English and explain: {sentence}"
        yield Sample("bilingual", f"{draw.choice(_ENGLISH)} In the original: “{sentence}”.", prompt)


def _indented(draw: random.Random) -> Iterator[Sample]:
    while True:
        deep = "".join(" " * 4 * level + f"if {draw.choice(_WORDS)}:\n" for level in range(1, 12))
        blank = "\n" * draw.randint(2, 12)
        yield Sample(
            "indented", f"{draw.choice(_WORDS)}:{' ' * draw.randint(12, 60)}{draw.choice(_WORDS)}\n{blank}{deep}"
        )


def _config(draw: random.Random) -> Iterator[Sample]:
    while True:
        lines = [
            f"{a}.{b} = {draw.choice(['true', 'false', '0', 'null'])}\n"
            for a, b in zip(draw.sample(_WORDS, 12), draw.sample(_WORDS, 12), strict=True)
        ]
        html = "<table>\n" + "<tr><td>0</td><td>0</td></tr>\n" * draw.randint(3, 5) + "</table>\n"
        yield Sample("config", draw.choice(["".join(lines), html, "    </div>\n  </div>\n</div>\n" * 2]))


def _mathematics(draw: random.Random) -> Iterator[Sample]:
    while True:
        letters = draw.sample("αβγδεζηθλμπρστφχψω", 4)
        terms = " + ".join(f"{c}_{i} x^{i}" for c, i in zip(letters, range(4), strict=True))
        yield Sample(
            "mathematics", f"Let f(x) = {terms}, where {', '.join(letters)} are real numbers. {_sentences(draw, 2)}"
        )


def _list(draw: random.Random) -> Iterator[Sample]:
    while True:
        kind = draw.choice(["words", "letters", "laughter", "cheer"])
        text = {
            "words": ", ".join(draw.choices(_WORDS, k=20)) + ".",
            "letters": "\n".join("abcdefghijklmnopqrstuvwxyz"),
            "laughter": f"{_sentences(draw, 1)} Ha ha ha ha! {_sentences(draw, 1)} Nooooooo!",
            "cheer": f"Very, very, very good. {_sentences(draw, 2)} Yes! Yes! Yes!",
        }[kind]
        yield Sample("list", text)


# ---- degenerate


def degenerate(n: int, *, seed: int = 0) -> list[Sample]:
    """`n` degenerate texts, of all kinds by turns, the recorded ones first."""
    kinds = (_word_loop, _word_loop, _character_loop, _specified, _line_loop, _code_loop, _digit_loop, _digit_loop)
    more = (_run, _drift, _mixed, _misread, _marks, _echo, _tokens, _silent_tokens, _few_words)
    made = [kind(random.Random(f"{seed} {kind.__name__} {i}")) for i, kind in enumerate((*kinds, *more))]
    found = list(recorded())
    for turn in itertools.cycle(made):
        if len(found) >= n:
            return found[:n]
        found.append(next(turn))
    raise AssertionError


def recorded() -> Iterator[Sample]:
    """Outputs of the two real models after a defect was planted in them, as they were."""
    for entry in json.loads(RECORDED.read_text(encoding="utf-8")):
        pieces = tuple(entry["pieces"])
        yield Sample("recorded", "".join(pieces), entry["prompt"], tuple(entry["ids"]), pieces)


def _lead(draw: random.Random) -> str:
    """What comes before it breaks: nothing, or a sentence or two."""
    return draw.choice(["", _sentences(draw, 1) + " ", _sentences(draw, 2) + "\n"])


def _word_loop(draw: random.Random) -> Iterator[Sample]:
    for period in itertools.cycle(range(1, 41)):
        fragment = " " + " ".join(draw.choices(_WORDS, k=period))
        copies = max(draw.randint(6, 12), 48 // (period * 4))
        cut = draw.randrange(len(fragment))
        yield Sample("word loop", _lead(draw) + fragment * copies + fragment[:cut])


def _character_loop(draw: random.Random) -> Iterator[Sample]:
    for period in itertools.cycle(range(1, 25)):
        fragment = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=period))
        yield Sample("character loop", _lead(draw) + fragment * max(10, 40 // period))


def _specified(draw: random.Random) -> Iterator[Sample]:
    while True:
        yield Sample("specified", _lead(draw) + "\ns\ns" * draw.randint(3, 40))


def _line_loop(draw: random.Random) -> Iterator[Sample]:
    while True:
        end = draw.choice(["\n", "\n\n", " "])
        yield Sample("line loop", _lead(draw) + (draw.choice(_ENGLISH) + end) * draw.randint(4, 9))


def _code_loop(draw: random.Random) -> Iterator[Sample]:
    while True:
        word = draw.choice(_WORDS)
        line = draw.choice(
            [f"    return {word}\n", f"print({word!r})\n", f"    {word} = {word}.next()\n", f"import {word}\n"]
        )
        yield Sample("code loop", f"def {word}(x):\n" + line * draw.randint(8, 20))


def _digit_loop(draw: random.Random) -> Iterator[Sample]:
    while True:
        a, b = draw.sample(_WORDS, 2)
        line = draw.choice(
            [
                "Step {i}: Add the " + a + " to the " + b + ".\n",
                "The answer is {i}. The next answer is {j}. ",
                "{i}. The " + a + " is the " + b + " of the " + a + ".\n",
                "On day {i} the " + a + " was {j} times the " + b + ". ",
                "[{i}] see the " + a + " on page {j}, ",
            ]
        )
        start, step = draw.randint(1, 200), draw.randint(1, 7)
        copies = range(draw.randint(11, 18))
        yield Sample("digit loop", _lead(draw) + "".join(line.format(i=start + i, j=start + step * i) for i in copies))


def _run(draw: random.Random) -> Iterator[Sample]:
    for char in itertools.cycle("aszEQ!?é。的0-\"')"):
        n = draw.randint(260, 400) if char in "-0" else draw.randint(24, 200)
        yield Sample("run", _lead(draw) + char * n)


def _drift(draw: random.Random) -> Iterator[Sample]:
    for language in itertools.cycle(FOREIGN):
        yield Sample("drift", _sentences(draw, 1) + " " + _sentences(draw, 2, language), "Tell me about the harbour.")


def _mixed(draw: random.Random) -> Iterator[Sample]:
    while True:
        words = [
            word
            for language in ("russian", "arabic", "thai", "greek")
            for word in _sentences(draw, 1, language).split()
        ]
        pieces = draw.choices([*words, *_WORDS], k=40)
        yield Sample("mixed scripts", "".join(pieces), "What is the time?")


def _misread(draw: random.Random) -> Iterator[Sample]:
    for language in itertools.cycle(("russian", "greek", "german", "french", "chinese", "korean")):
        text = _sentences(draw, 3, language)
        yield Sample("misread", text.encode().decode("latin-1"))


def _marks(draw: random.Random) -> Iterator[Sample]:
    while True:
        text = list(_sentences(draw, 3))
        sign = draw.choice(["\ufffd", "\x00", "\x1b", "Ġ"])
        for at in draw.sample(range(len(text)), 12):
            text[at] = sign
        yield Sample("marks", "".join(text))


def _echo(draw: random.Random) -> Iterator[Sample]:
    while True:
        prompt = draw.choice(_ENGLISH) + " What happened then?"
        between = draw.choice(["", "\n", " "])
        yield Sample("echo", (prompt + between) * draw.randint(3, 7), prompt)


def _tokens(draw: random.Random) -> Iterator[Sample]:
    for period in itertools.cycle(range(1, 9)):
        ids = [draw.randrange(1000) for _ in range(draw.randint(0, 12))]
        texts = [" " + draw.choice(_WORDS) for _ in ids]
        loop = [(draw.randrange(1000), draw.choice([" ", "\n", "-", "0", " the", "."])) for _ in range(period)]
        loop = [(i * 10 + token, text) for i, (token, text) in enumerate(loop)]
        copies = max(16, 48 // period)
        ids += [token for token, _ in loop] * copies
        texts += [text for _, text in loop] * copies
        yield Sample("token loop", "".join(texts), "", tuple(ids), tuple(texts))


def _silent_tokens(draw: random.Random) -> Iterator[Sample]:
    while True:
        n = draw.randint(32, 90)
        yield Sample("silent tokens", "", "", (draw.randrange(1000),) * n, ("",) * n)


def _few_words(draw: random.Random) -> Iterator[Sample]:
    while True:
        words = draw.sample(_WORDS, draw.randint(2, 5))
        yield Sample("few words", " ".join(draw.choices(words, k=draw.randint(70, 120))))
