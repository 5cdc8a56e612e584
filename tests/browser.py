"""A real browser for tests: what a page looks like, pixel by pixel, and what it runs."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.reports import html

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium binary: apt-get install chromium")
LIMIT_S = 120


def chromium(folder: Path, *arguments: str) -> bytes:
    """Run the browser without a window, a sandbox or a network."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [
        "--disable-background-networking",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={folder / 'profile'}",
    ]
    return subprocess.run([*command, *arguments], capture_output=True, timeout=LIMIT_S, check=True).stdout


def screenshot(report: Any, folder: Path, *, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: what a person sees."""
    html.save(report, folder / "report.html")
    picture = folder / "report.png"
    chromium(folder, f"--window-size=1100,{height}", f"--screenshot={picture}", (folder / "report.html").as_uri())
    return read_png(picture.read_bytes())


def colours(pixels: np.ndarray) -> set[tuple[int, int, int]]:
    """Those of a picture."""
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return {(c >> 16, c >> 8 & 255, c & 255) for c in np.unique(red << 16 | green << 8 | blue).tolist()}


def light_colours() -> dict[str, tuple[int, int, int]]:
    """The custom properties of the light style that are colours."""
    style = (Path(html.__file__).parent / "_report.css").read_text(encoding="utf-8")
    light = style[: style.index("@media")]
    return {
        name: (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16))
        for name, code in re.findall(r"--([\w]+): #([0-9a-f]{6})", light)
    }


def read_png(data: bytes) -> np.ndarray:
    """uint8 [height, width, 3] of a PNG with 8 bits a channel, not interlaced (PNG specification, sections 7 and 9)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    packed, at = b"", 8
    width = height = channels = 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0)
            channels = {2: 3, 6: 4}[colour]
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    out = np.zeros((height, width, channels), np.uint8)
    above = np.zeros((width, channels), np.uint8)
    for y in range(height):
        above = out[y] = _unfiltered(int(rows[y, 0]), rows[y, 1:].reshape(width, channels), above)
    return out[..., :3]


def _unfiltered(kind: int, row: np.ndarray, above: np.ndarray) -> np.ndarray:
    if kind == 0:
        return row
    if kind == 1:
        return np.cumsum(row, axis=0, dtype=np.uint8)
    if kind == 2:
        return row + above
    columns = []
    for line, up in zip(row.T.tolist(), above.T.tolist(), strict=True):
        left = corner = 0
        made = []
        for value, b in zip(line, up, strict=True):
            if kind == 3:
                near = (left + b) // 2
            else:
                p = left + b - corner
                pa, pb, pc = abs(p - left), abs(p - b), abs(p - corner)
                near = left if pa <= pb and pa <= pc else b if pb <= pc else corner
            left, corner = (value + near) & 255, b
            made.append(left)
        columns.append(made)
    return np.array(columns, np.uint8).T
