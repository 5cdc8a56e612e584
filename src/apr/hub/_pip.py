"""Where the package index is: as pip is configured, by files or environment, and pip's own default.

A mirror behind a firewall, a folder of wheels and a private index with a password work as they do for pip.
"""

from __future__ import annotations

import ast
import base64
import importlib
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit

from apr.errors import HubError
from apr.hub import _environment

logger = logging.getLogger(__name__)

_PIP_ANSWERS_IN_S = 20


@dataclass(frozen=True, slots=True)
class Location:
    """A place to look for wheels.

    url:       https:// or file://, without user name and password
    is_index:  a simple index (one page a package); else a page or folder of links (`find-links`)
    secrets:   headers that this index, and only this, is sent
    cafile:    certificates to trust besides the system's, or None
    """

    url: str
    is_index: bool
    secrets: Mapping[str, str]
    cafile: str | None


def locations() -> list[Location]:
    """Every place that pip would look at: the index, the extra indexes, the folders of links."""
    settings = {**_configured(), **_environment.pip_variables()}
    cafile = settings.get("cert")
    indexes = [settings.get("index-url") or _default_index(), *settings.get("extra-index-url", "").split()]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        indexes = []
    links = settings.get("find-links", "").split()
    return [_location(url, cafile, is_index=True) for url in indexes] + [
        _location(url, cafile, is_index=False) for url in links
    ]


def _location(url: str, cafile: str | None, *, is_index: bool) -> Location:
    if url.startswith("/"):
        url = f"file://{url}"
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    secrets = {}
    if at:
        encoded = base64.b64encode(unquote(user).encode()).decode("ascii")
        secrets = {"Authorization": f"Basic {encoded}"}
    plain = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), parts.query, ""))
    return Location(plain, is_index, secrets, cafile)


@cache
def _configured() -> dict[str, str]:
    """The settings of pip's configuration files; empty where there is no pip."""
    # -P: a file called pip.py in the working folder is not pip
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_ANSWERS_IN_S, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        logger.debug("pip does not say how it is configured: %s", exc)
        return {}
    return parse_config_list(done.stdout)


def parse_config_list(text: str) -> dict[str, str]:
    """Read what `pip config list` prints: `section.key='value'` lines. `download` is stronger than `global`."""
    found: dict[str, dict[str, str]] = {"global": {}, "download": {}}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        section, _, key = name.strip().rpartition(".")
        if not equals or section not in found:
            continue
        try:
            found[section][key] = str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            logger.debug("pip config list: cannot read %r", name)
    return {**found["global"], **found["download"]}


def _default_index() -> str:
    try:
        models = importlib.import_module("pip._internal.models.index")
        return str(models.PyPI.simple_url)
    except (ImportError, AttributeError) as exc:
        raise HubError(
            "no package index is configured, and this Python has no pip to ask; set PIP_INDEX_URL, or: python -m ensurepip"
        ) from exc
