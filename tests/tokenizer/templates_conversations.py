"""Conversations that every chat template is rendered with, and hostile templates."""

from __future__ import annotations

from typing import Any

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello."}
WEATHER = {
    "type": "function",
    "function": {
        "name": "wetter",
        "description": "Das Wetter für „Köln“ <b>&amp;</b> 東京",
        "parameters": {
            "type": "object",
            "properties": {"ort": {"type": "string", "description": "Ort, z. B. Zürich"}, "tage": {"type": "integer"}},
            "required": ["ort"],
        },
    },
}
CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "wetter", "arguments": {"ort": "Köln", "tage": 2, "grad": 1.5, "ja": True}},
}
RESULT = {"role": "tool", "name": "wetter", "tool_call_id": "call00001", "content": '{"°C": 21}'}

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "no system": [USER],
    "system": [SYSTEM, USER],
    "system only": [SYSTEM],
    "turns": [SYSTEM, USER, ANSWER, {"role": "user", "content": "And?\nSay more."}],
    "ends with the assistant": [USER, ANSWER],
    "blanks around content": [
        {"role": "system", "content": " s \n"},
        {"role": "user", "content": "\n\t hi  \n"},
        {"role": "assistant", "content": "  ok "},
        USER,
    ],
    "empty content": [{"role": "user", "content": ""}],
    "empty system": [{"role": "system", "content": ""}, USER],
    "not alternating": [USER, USER],
    "starts with the assistant": [ANSWER, USER],
    "unknown role": [{"role": "wizard", "content": "abra"}],
    "braces, quotes, unicode": [{"role": "user", "content": "{{ x }} {% if %} 'q' \"d\" \\n \u00a0é漢🙂 <b>&"}],
    "null content": [USER, {"role": "assistant", "content": None, "tool_calls": None}, USER],
    "missing content": [{"role": "user"}],
    "content parts": [{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]}],
    "thoughts": [
        USER,
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello.", "reasoning": "hm"},
        USER,
    ],
    "tool call and result": [
        SYSTEM,
        {"role": "user", "content": "Wie wird das Wetter?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        RESULT,
        {"role": "assistant", "content": "21 °C."},
        USER,
    ],
    "tool result last": [USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT],
}

HOSTILE: dict[str, str] = {
    # ways to the interpreter
    "class walk": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "cycler globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner globals": "{{ joiner.__init__.__globals__['os'] }}",
    "lipsum globals": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "undefined globals": "{{ nothing.__init__.__globals__['os'] }}",
    "format field": "{{ '{0.__class__.__mro__}'.format('x') }}",
    "format_map field": "{{ '{a.__class__.__mro__}'.format_map({'a': 'x'}) }}",
    "attr filter": "{{ ((''|attr('__class__'))|attr('__mro__'))() }}",
    "indirect format, CVE-2024-56326": "{% set f = '{0.__class__.__mro__}'.format %}{{ f('x') }}",
    "indirect format by map, CVE-2024-56326": "{{ ['{0.__class__.__mro__}']|map('format')|list }}{{ ''.__class__.a }}",
    "attr format, CVE-2025-27516": "{{ ('{0.__class__.__mro__}'|attr('format'))('x') }}",
    "map attribute": "{{ ([''] | map(attribute='__class__.__mro__') | first)() }}",
    "namespace dunder": "{% set ns = namespace(__class__='x') %}{{ ns }}",
    "namespace dunder set later": "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
    "namespace dunder from a dict": "{% set ns = namespace({'_Namespace__attrs': {}}) %}",
    "macro internals": "{% macro m() %}{% endmacro %}{{ m._func.__globals__['os'] }}",
    "self internals": "{{ self._TemplateReference__context.environment.overlay() }}",
    "environment of a filter": "{{ raise_exception.__globals__['sys'].exit() }}",
    "clock internals": "{{ strftime_now.__closure__[0].cell_contents.from_string('x') }}",
    "generator frame": "{{ (x for x in [1]).gi_frame.f_globals }}",
    "changing the input": "{% set _ = messages.append({'role': 'user', 'content': 'x'}) %}",
    "changing a message": "{% set _ = messages[0].update({'role': 'system'}) %}",
    # other templates
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "from import": "{% from 'os' import popen %}",
    "extends": "{% extends 'base' %}",
    # time and memory
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macro that doubles": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "huge power": "{{ 10 ** (10 ** 10) }}",
    "huge range": "{% for a in range(10**9) %}{% endfor %}",
    "huge product": "{{ 'A' * 10**9 }}",
    "huge list": "{{ ([0] * 10**9) | length }}",
    "huge padding": "{{ 'A'.center(10**9) }}",
    "huge format": "{{ '%1000000000d' % 1 }}",
    "huge format width": "{{ '{:>1000000000}'.format(1) }}",
    "huge indent": "{{ 'a\\nb' | indent(10**9) }}",
    "string doubling": "{% set ns = namespace(s='A') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "list doubling": "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "output over the cap": "{% for a in range(99999) %}{{ 'A' * 100 }}{% endfor %}",
    "output over the cap in one piece": "{{ 'A' * (5 * 1024 * 1024) }}",
    "evil cycler": "{% set c = cycler('A' * 1000) %}{% for a in range(99999) %}{{ c.next() }}{% endfor %}",
    # text that is no template
    "not closed": "{% for m in messages %}",
    "unknown tag": "{% frobnicate %}",
    "unknown filter": "{{ messages | frobnicate }}",
    "not an expression": "{{ + }}",
    "over 1 MiB": "{#" + "x" * 2**20 + "#}",
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep lists": "{{ " + "[" * 400 + "]" * 400 + " }}",
    "deep blocks": "{% for a in [1] %}" * 200 + "{% endfor %}" * 200,
    "long chain": "{{ 1" + " + 1" * 20000 + " }}",
    "huge number": "{{ " + "9" * 10000 + " }}",
    "lone surrogate in the source": "{{ messages }}\ud800",
    "lone surrogate made by an escape": "{{ '\\ud800' }}",
}

# what a template's environment decides, one thing each
SNIPPETS: list[str] = [
    "a\n{% if true %}\n  b\n{% endif %}\nc\n",
    "  {% if true %}x{% endif %}  \n\t{% set a = 1 %}\n  {{ a }}\n\n",
    "{# comment #}\n  {# comment #}\nx",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "{{ messages | tojson }}\n{{ tools | tojson(indent=2) }}",
    "{{ tools[0] | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
    "{{ {'<b>': '&', 'a': [1, 2.50, none, true, 1e300]} | tojson }}",
    "{% set ns = namespace(a=1, b='x') %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{{ dict(a=1) }}{{ dict([('b', 2)]) }}{{ dict.fromkeys(['x', 'y'], 0) }}",
    "{{ strftime_now('%d %b %Y %H:%M:%S') }}",
    "{{ nothing }}[{{ nothing is defined }}]{{ messages[0].nothing }}{{ documents is none }}",
    "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ sep_token is defined }}",
    "{% macro f(a, b='d') %}{{ a }}-{{ b }}{{ caller() if caller }}{% endmacro %}{{ f(1) }}{% call f(2, b=3) %}in{% endcall %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}",
    "{{ messages[::-1] | map(attribute='role') | list }}{{ messages | length }}{{ messages[1:] | first }}",
    "{{ ' x '.strip() + 'a,b'.split(',')[-1] }}{{ 'é漢' | upper }}{{ 'a' in 'abc' }}{{ 'x' ~ 1 ~ none ~ true }}",
    "{{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ 1.0 }} {{ (1, 2) }} {{ [1, 'a'] }}",
    "{{ '<b>' | e }}{{ '<b>' | safe }}{{ messages | string }}",
    "{% filter upper %}a{{ messages[0].content }}{% endfilter %}{% set x %}  block\n{% endset %}{{ x }}",
    "{% raw %}{{ x }}{% endraw %}{%- if messages is iterable and messages is not string and messages is sequence %}y{% endif %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{% for m in messages recursive %}{{ loop.depth }}{% endfor %}",
    "{{ '%s-%05.1f' | format('a', 2.25) }}{{ '{}:{x!r}'.format(1, x='q') }}{{ '%d' % 3 }}",
    "{% if messages[0]['role'] == 'system' -%}   S   {%- endif %}   {{- ' t ' -}}   \n",
]
