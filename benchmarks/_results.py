"""Results: one JSON line each in build/bench/, and the medians and ratios in them. Losses stay in the file."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _machine

from apr.bench import _rounds
from apr.bench._machine import is_busy
from apr.bench._rounds import Rounds, Segment, limit_fraction, ratios

FOLDER = _machine.REPOSITORY / "build" / "bench"

Row = dict[str, Any]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and most, and the values in order."""
    return asdict(_rounds.spread(values)) | {"values": list(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """The per-round ratios of two entries of one contest."""
    return spread(ratios(values, others))


class Results:
    """Writes the rows of one run of a script."""

    def __init__(self, bench: str) -> None:
        self._path = FOLDER / f"{bench}.jsonl"
        self._same = {
            "bench": bench,
            "run": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": _machine.description(),
            "command": shlex.join(["python", os.path.relpath(sys.argv[0], _machine.REPOSITORY), *sys.argv[1:]]),
        }

    def add(self, case: str, contestant: str, unit: str, values: Sequence[float], **more: Any) -> None:
        """Append a row."""
        row = {
            **self._same,
            "case": case,
            "contestant": contestant,
            "unit": unit,
            **spread(values),
            "load_average": os.getloadavg(),
            **more,
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)

    def add_duel(
        self, case: str, name: str, unit: str, segments: Mapping[str, Sequence[Segment]], **more: Any
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Append a row of "apr" beside "llama.cpp", in turns; the medians, and how many times as fast ours is."""
        values = {entry: [segment.value for segment in found] for entry, found in segments.items()}
        others = [segment.others_cores for segment in segments["apr"]]
        above, below = ("llama.cpp", "apr") if unit == "s" else ("apr", "llama.cpp")
        times_as_fast = ratio(values[above], values[below])
        self.add(
            case,
            name,
            unit,
            values["apr"],
            ratio_to={"llama.cpp": times_as_fast},
            llama_cpp=values["llama.cpp"],
            others_cores=others,
            busy_rounds=sum(map(is_busy, others)),
            **more,
        )
        return {entry: statistics.median(found) for entry, found in values.items()}, times_as_fast

    def add_contest(
        self,
        case: str,
        unit: str,
        rounds: Rounds,
        *,
        about: Mapping[str, Mapping[str, Any]],
        bytes_per_token: int | None = None,
        **more: Any,
    ) -> None:
        """Append a row for each entry; ours have their ratios to all others. `about`: what else is known of each."""
        for name, segments in rounds.segments.items():
            values = rounds.values(name)
            ratios = {other: ratio(values, rounds.values(other)) for other in rounds.segments if other != name}
            others = [segment.others_cores for segment in segments]
            self.add(
                case,
                name,
                unit,
                values,
                ratio_to=ratios if name.startswith("apr") else {},
                bandwidth_gb_per_s=rounds.bandwidth,
                limit_fraction=limit_fraction(values, bytes_per_token, rounds.bandwidth) if bytes_per_token else None,
                bytes_per_token=bytes_per_token,
                others_cores=others,
                busy_rounds=sum(map(is_busy, others)),
                **about.get(name, {}),
                **more,
            )


def read(folder: Path = FOLDER) -> list[Row]:
    """All rows of all scripts, oldest first."""
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines())
    return sorted((json.loads(line) for line in lines), key=lambda row: row["run"])


def newest(rows: Sequence[Row]) -> list[Row]:
    """Of each bench, model and case the rows of its last run."""
    last = {_key(row): row["run"] for row in rows}
    return [row for row in rows if row["run"] == last[_key(row)]]


def _key(row: Row) -> tuple[str, str, str]:
    return row["bench"], row.get("model", {}).get("name", ""), row["case"]
