"""A glance at a chat template's text, without jinja2: is there anything in it that an audit could find?"""

from __future__ import annotations

import re

_SHORT = 3_000  # characters: too few to nest more deeply than a parser can follow
# every finding of `_template_audit` but broken syntax needs one of these: a name, an escape that could spell one, a
# large or computed number
_AUDITED = re.compile(
    r"__|mro|gi_|cr_frame|f_globals|f_builtins|f_back|tb_frame|format|attr|include|import|extends|cycler|lipsum|joiner"
    r"|\bself\b|config|request|\\[xuUN0-7]|\d{3,}|\d_\d|0[xXbBoO]|\*"
    r"|(?:[\[({]\s*){20}"  # nesting that a parser may not follow
)


def worth_parsing(source: str) -> bool:
    """Whether `chat_template.suspicious` could find anything in a template besides broken syntax.

    Broken syntax shows when the template is rendered, as `apr validate` does.
    """
    return len(source) > _SHORT or _AUDITED.search(source) is not None
