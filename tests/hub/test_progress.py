"""The display of a transfer."""

from __future__ import annotations

import pytest

from apr.hub._progress import SILENT


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    SILENT.start("a file", None)
    SILENT.advance(10)
    SILENT.finish()
    out = capsys.readouterr()
    assert out.out == "" and out.err == ""
