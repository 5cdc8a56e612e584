"""The environment variables of this room, read here and nowhere else.

APR_HOME                moves everything: models lie in $APR_HOME/models, histories in $APR_HOME/state
APR_OFFLINE             1: open no socket; 0: the network may be used, whatever HF_HUB_OFFLINE says
HF_HUB_OFFLINE          honoured where APR_OFFLINE is not set
HF_HUB_ETAG_TIMEOUT     how long the hub may take to answer; also read by huggingface_hub, as are HF_HOME and HF_TOKEN
PIP_*                   where the package index is, for a Python without pip (see _pip.py)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_TRUE = frozenset({"1", "true", "yes", "on"})
# The hub answers in well under a second; a closed network must not cost a user more than this before the next source.
_HUB_ANSWER_S = 4.0


def cache_dir() -> Path:
    """The folder of the models: $APR_HOME/models, else `models` in the user's cache folder. It may not exist yet."""
    home = os.environ.get("APR_HOME")
    if home:
        return Path(home).expanduser().absolute() / "models"
    own = os.environ.get("HOME", "")
    if sys.platform == "linux" and own.startswith("/") and not os.environ.get("XDG_CACHE_HOME"):
        return Path(own) / ".cache" / "apr" / "models"  # as platformdirs says, which takes long to import
    from platformdirs import user_cache_path

    return user_cache_path("apr") / "models"


def state_dir() -> Path:
    """The folder of what may be lost without harm, such as a history: $APR_HOME/state, else the user's state folder."""
    home = os.environ.get("APR_HOME")
    if home:
        return Path(home).expanduser().absolute() / "state"
    from platformdirs import user_state_path

    return user_state_path("apr")


def offline_switch() -> str | None:
    """The environment variable that closes the network, or None while it is open."""
    for name in ("APR_OFFLINE", "HF_HUB_OFFLINE"):
        value = os.environ.get(name, "").strip().lower()
        if value in _TRUE:
            return name
        if value:  # an explicit no of ours is stronger than the hub's yes
            return None
    return None


def hub_answer_s() -> float:
    """Seconds that the hub has for its first answer."""
    value = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(value) if value.isdigit() and int(value) else _HUB_ANSWER_S


def pip_variables() -> Mapping[str, str]:
    """PIP_INDEX_URL and its like, under the names that a pip configuration file uses (`index-url`)."""
    prefix = "PIP_"
    return {
        k.removeprefix(prefix).lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith(prefix) and v
    }
