"""What a link of the chain found in one file by itself, as findings of a gate: `apr why` and `apr qa` see the same defects."""

from __future__ import annotations

from collections.abc import Container, Iterator

from apr.parity._link import LinkResult
from apr.qa.gate import Finding


def failures(result: LinkResult, *, leave_out: Container[str] = ()) -> Iterator[Finding]:
    """One failure for each finding of a link. The code is the cause without its room: `tokenizer.pre` gives "pre".

    leave_out:  causes that another gate reports
    """
    for found in result.findings:
        if found.cause not in leave_out:
            code = found.cause.partition(".")[2].replace("_", "-")
            yield Finding("fail", code, found.sentence, dict(found.where))
