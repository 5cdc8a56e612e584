"""Write docs/cli.md, docs/json.md and docs/schemas/ from the commands and the dataclasses themselves.

python scripts/render_docs.py            write them
python scripts/render_docs.py --check    say which are out of date; exit 1 if one is
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter

from apr.bench._report import BenchReport
from apr.cli import EXIT_CODES, _results, group
from apr.convert.imatrix import Imatrix
from apr.convert.transcode import Conversion
from apr.engines._record import RunRecord
from apr.evals._report import EvalReport
from apr.hub import Pulled
from apr.ledger import _summary
from apr.ledger._diff import ContractDiff
from apr.ledger._experiment import PredictReport
from apr.ledger._lint import LintReport
from apr.ledger.ship import ShipReport
from apr.ledger.standing import StatusReport
from apr.ledger.verify import VerifyReport
from apr.models._inspection import Inspection, TensorTable
from apr.parity._report import ParityReport, WhyReport
from apr.parity.loss import Loss
from apr.parity.made_from import MadeFrom
from apr.qa.gate import Report
from apr.trace.compare import TraceComparison
from apr.trace.record import Trace

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 96
COMMANDS_OF = {  # schema -> who prints it
    "apr.run/1": (RunRecord, "`apr run --json`, `--record FILE`, and each answer of `apr chat --json`"),
    "apr.inspect/1": (Inspection, "`apr inspect --json`"),
    "apr.tensors/1": (TensorTable, "`apr tensors --json`"),
    "apr.validate/1": (Report, "`apr validate --json`"),
    "apr.qa/1": (Report, "`apr qa --json`"),
    "apr.trace/1": (Trace, "`apr trace --json`"),
    "apr.trace-comparison/1": (TraceComparison, "`apr trace --against FILE --json`"),
    "apr.parity/1": (ParityReport, "`apr parity --json`"),
    "apr.why/1": (WhyReport, "`apr why --json`"),
    "apr.bench/1": (BenchReport, "`apr bench --json`"),
    "apr.eval/1": (EvalReport, "`apr eval --json`"),
    "apr.contract-lint/1": (LintReport, "`apr contract lint --json`"),
    "apr.contract-diff/1": (ContractDiff, "`apr contract diff --json`"),
    "apr.evidence-list/1": (_summary.EvidenceList, "`apr evidence list --json`"),
    "apr.evidence/1": (_summary.EvidenceShown, "`apr evidence show --json`"),
    "apr.evidence-verify/1": (_summary.EvidenceAudit, "`apr evidence verify --json`"),
    "apr.evidence-key/1": (_summary.EvidenceKey, "`apr evidence key --json`"),
    "apr.evidence-written/1": (
        _summary.EvidenceWritten,
        "`apr evidence sign --json` and `apr evidence close --json`",
    ),
    "apr.contract-verify/1": (VerifyReport, "`apr contract verify --json`"),
    "apr.contract-status/1": (StatusReport, "`apr contract status --json`"),
    "apr.ship/1": (ShipReport, "`apr ship --json`"),
    "apr.predict/1": (PredictReport, "`apr predict run --json`, `apr predict check --json`, and kept as the result"),
    "apr.convert/1": (Conversion, "`apr convert --json`"),
    "apr.loss/1": (Loss, "`loss` of `apr convert --report --json`"),
    "apr.made-from/1": (MadeFrom, "`apr convert --verify A B --json`"),
    "apr.imatrix/1": (Imatrix, "`apr imatrix --json`"),
    "apr.pull/1": (Pulled, "`apr pull --json`"),
    "apr.list/1": (_results.ModelList, "`apr list --json`"),
    "apr.rm/1": (_results.Removed, "`apr rm --json`"),
    "apr.completion/1": (_results.Completion, "`apr completion --json`"),
    "apr.error/1": (_results.Failure, "every command with `--json` that fails before it has a result"),
}
# A float that may be infinite or NaN is null in JSON.
NULLABLE = {("Step", "margin"), ("Step", "logprob")}
MEANINGS = {  # of fields whose names say enough for the code, not for a reader of the JSON
    "schema": "the name and version of this form; fields are only ever added within a version",
    "*.path": "path of the model: a file, or a folder of safetensors",
    "*.size_bytes": "bytes on disk",
    "*.sha256": "64 hexadecimal digits",
    "*.name": "its name",
    "*.license": "as its publisher states it; null if not stated",
    "*.reference": "what was asked for: an alias, a URL or a path",
    "*.source": "where it came from",
    "*.codec": "encoding: a name of `apr.kernels.quants`",
    "*.n_tensors": "number of tensors",
    "*.n_bytes": "bytes of the encoded data",
    "*.status": "pass, skip, undecided, fail or error",
    "*.code": "stable reason code",
    "*.message": "one sentence for a person",
    "*.seconds": "wall time in seconds",
    "*.was_cached": "whether nothing had to be fetched",
    "*.text": "the text",
    "*.description": "one line about it",
    "*.file_name": "name that the file gets in the cache",
    "Inspection.format": "gguf, safetensors or apr",
    "Inspection.format_version": "version of the container; empty if it has none",
    "Inspection.architecture": "as the file names it",
    "Inspection.n_parameters": "values in all tensors",
    "Inspection.dtypes": "the encodings, largest share first",
    "TensorTable.tensors": "the tensors that were asked for, in the file's order",
    "TensorRow.shape": "row-major: [out_features, in_features]",
    "TensorRow.offset": "first byte of its data in its file",
    "TensorRow.statistics": "of the decoded values; null without `--stats` or without a codec",
    "Statistics.mean": "over finite values",
    "Statistics.std": "population standard deviation over finite values",
    "Statistics.min": "smallest finite value",
    "Statistics.max": "largest finite value",
    "Statistics.n_nan": "how many values are NaN",
    "Statistics.n_inf": "how many values are infinite",
    "*.exit_code": "the status that the command exits with",
    "TraceHeader.model_format": "gguf, safetensors or apr",
    "TraceHeader.engine": "what ran the model",
    "TraceHeader.engine_version": "its version",
    "TraceHeader.kernel_set": "the arithmetic that was used",
    "TraceHeader.instruction_set": "the processor's instruction set that it used",
    "TraceHeader.threads": "threads of the arithmetic",
    "TraceHeader.prompt_token_ids": "the exact input ids",
    "Trace.header": "what ran on what",
    "NonFinite.slot": "its full name",
    "NonFinite.layer": "null outside of the layers",
    "TopToken.token_id": "its id",
    "TopToken.logit": "before any sampling transform",
    "TraceComparison.reference": "the kept trace that is right by definition",
    "TraceComparison.candidate": "the trace or model that is judged",
    "TraceComparison.verdict": "same, different or not_comparable",
    "TraceComparison.n_positions": "positions that were compared",
    "TraceComparison.n_different": "slots that are different",
    "TraceComparison.slots": "every slot that was compared, in the order of the pass; empty if not comparable",
    "SlotComparison.slot": "its full name",
    "SlotComparison.layer": "null outside of the layers",
    "SlotComparison.is_different": "whether position_l2 is over the threshold, or a value is not finite on one side",
    "ParityReport.reference": "what is right by definition, as it was named",
    "ParityReport.candidate": "what is compared with it, as it was named",
    "ParityReport.links": "the links that were asked for, in the order of the chain",
    "WhyReport.reference": "what is right by definition, as it was named; null for one subject alone",
    "WhyReport.candidate": "what is compared with it, as it was named",
    "WhyReport.verdict": "same, different, not_comparable or cannot_tell",
    "WhyReport.proof": "what putting it right did; null if nothing could be put right",
    "WhyReport.links": "the links that were looked at, in the order of the chain",
    "WhyReport.benign": "whether nothing found is a defect",
    "LinkResult.link": "file, metadata, tokenizer, template, tokens, weights, activations, logits or generation",
    "LinkResult.verdict": "same, different, not_comparable, cannot_tell or skipped",
    "Finding.cause": "one of the causes in `apr.parity._causes`",
    "RunRecord.engine": "what ran the model",
    "RunRecord.engine_version": "its version",
    "RunRecord.kernel_set": "the arithmetic that was used",
    "RunRecord.instruction_set": "the processor's instruction set that it used",
    "RunRecord.model": "path of the model file",
    "RunRecord.model_format": "gguf, safetensors or apr",
    "RunRecord.tokenizer_sha256": "of everything that decides tokenisation",
    "RunRecord.template": "what was done about the chat template",
    "RunRecord.prompt_token_ids": "the exact input ids",
    "RunRecord.sampling": "how tokens were chosen",
    "RunRecord.max_tokens": "most tokens that were allowed",
    "RunRecord.stop_token_ids": "ids that end the text",
    "RunRecord.stop_strings": "texts that end the text",
    "RunRecord.threads": "threads of the arithmetic",
    "RunRecord.batch": "sequences computed together",
    "RunRecord.cached_prompt_tokens": "prompt tokens that did not have to be computed again",
    "RunRecord.text": "the generated text",
    "RunRecord.steps": "one entry a generated token",
    "RunRecord.finish_reason": "eos, stop_string, length, context_full or interrupted",
    "RunRecord.timings": "seconds, and tokens per second",
    "Timings.prefill_tok_per_s": "prompt tokens per second; 0 if there was no such phase",
    "Timings.decode_tok_per_s": "generated tokens per second; 0 if there was no such phase",
    "Step.token_id": "the chosen id",
    "Report.subject": "path of the model",
    "Report.reference": "the original that it was held against; null if there was none",
    "Report.profile": "which gates were run: file needs no engine",
    "Report.seconds": "wall time in seconds",
    "GateResult.source": "the text that says what is right",
    "Finding.status": "pass, skip, undecided, fail or error",
    "Coverage.n": "how many were looked at",
    "Coverage.n_all": "how many there are",
    "Coverage.of": "what is counted: tensors, prompts, positions …",
    "Report.counts": "gates by status",
    "Report.gates": "every gate's outcome",
    "Report.exit_code": "the status that the command exits with",
    "GateResult.id": "name of the gate",
    "GateResult.findings": "everything that it found",
    "GateResult.rationale": "why a defect of this kind hurts",
    "GateResult.severity": "P0 blocks a release, P1 warns",
    "Conversion.source": "path of the model that was converted",
    "Conversion.target": "path of the model that was written",
    "Conversion.source_format": "gguf, safetensors or apr",
    "Conversion.target_format": "gguf, safetensors or apr",
    "Conversion.target_sha256": "of the written weights",
    "Conversion.dequantized_to": "f32, f16 or bf16; null if nothing was decoded",
    "TemplateUse.reason": "why, in words",
    "Timings.decode_s": "seconds from the first token to the last",
    "Report.verdict": "of all gates: fail before error before undecided; pass only if something passed",
    "ModelConfig.rope_scaling": "how positions are stretched beyond the original context; null if they are not",
    "ModelConfig.*": "of the architecture, as the Hugging Face configuration of that name",
    "RopeScaling.*": "of `rope_scaling`, as the Hugging Face configuration of that name",
    "ModelConfig.defaulted": "keys that the file does not have, so that their default is used",
    "ModelConfig.unread": "keys of the file that are not read",
    "Item.id": "as the problems or questions name it",
    "Item.regime": "raw or chat",
    "Item.n_answers": "answers that were judged",
    "Item.n_passed": "of them, those that passed",
    "EvalReport.exit_code": "the status that the command exits with",
    "PredictionResult.id": "as the file has it",
    "PredictionResult.question": "as the file has it; empty if it asks none",
    "PredictionResult.hypotheses": "each of the file's, in its order",
    "HypothesisResult.id": "as the file has it",
    "Judged.status": "pass or fail",
    "Separated.first": "the id of a hypothesis",
    "Separated.second": "the id of another",
    "ExtraRun.id": "of the candidate; control-with-FIELD for one that no candidate of the file is",
    "RecordComparison.verdict": "same, different, not_comparable or cannot_tell",
    "FieldDifference.field": "of the run record",
    "FieldDifference.reference": "the control's value",
    "FieldDifference.candidate": "the experiment's value",
    "Pulled.notes": "what a careful user should know",
}


def main() -> int:
    """Write or check every file."""
    rendered = dict(documents())
    stale = [path for path, text in rendered.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is out of date; run: python scripts/render_docs.py")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


def documents() -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    yield DOCS / "cli.md", cli_page()
    yield DOCS / "json.md", json_page()
    for name, (kind, _) in COMMANDS_OF.items():
        yield DOCS / "schemas" / f"{name.replace('/', '-')}.json", json.dumps(schema_of(name, kind), indent=2) + "\n"


def cli_page() -> str:
    """The help of every command, and the exit codes."""
    root = click.Context(group, info_name="apr", terminal_width=WIDTH, help_option_names=["-h", "--help"])
    parts = [
        "# Command line\n",
        "Generated by `scripts/render_docs.py` from `--help`.\n",
        _EXITS,
        _exit_table(),
        _ENVIRONMENT,
    ]
    parts.append(f"## apr\n\n```text\n{group.get_help(root)}\n```\n")
    parts += _help_of(group, root)
    return "\n".join(parts)


def _help_of(commands: click.Group, parent: click.Context) -> Iterator[str]:
    """The help of every command of a group, and of the commands of those that are groups themselves."""
    for name in commands.list_commands(parent):
        command = commands.get_command(parent, name)
        assert command is not None
        context = click.Context(
            command,
            info_name=name,
            parent=parent,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            **command.context_settings,
        )
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            yield from _help_of(command, context)


_EXITS = """## Exit codes

Results go to standard output, everything else to standard error.
"""
_ENVIRONMENT = """## Environment

| variable | meaning |
|---|---|
| `NO_COLOR` | not empty: no colour, whatever else is said |
| `FORCE_COLOR`, `CLICOLOR_FORCE` | not empty and not 0: colour in a pipe too |
| `TERM=dumb` | no colour, no moving lines |
| `APR_HOME` | moves everything: models, histories |
| `APR_OFFLINE`, `HF_HUB_OFFLINE` | 1: open no socket |
| `APR_ISA` | the instruction set to compute with, instead of the processor's best: `avx512vnni`, `avx512`, `avxvnni`, `avx2`, `neon` or `portable` |
| `APR_DEBUG` | 1: traceback of a bug |

A progress bar is drawn on a terminal only, for what takes over a second. Names, metadata and generated text are shown on
a terminal with their control characters made visible.
"""


def json_page() -> str:
    """Every field of every schema."""
    parts = [
        "# JSON output\n",
        "Generated by `scripts/render_docs.py` from the dataclasses that hold the results.\n",
        "Every command takes `--json` and prints one object on one line of standard output (`apr chat`: one a turn; `apr run",
        "--prompts`: one a prompt), UTF-8, with control and formatting characters as `\\u` escapes. A number that is not finite is null. A JSON Schema of each form is in",
        "`docs/schemas/`.\n",
        _exit_table(),
    ]
    for name, (kind, who) in COMMANDS_OF.items():
        parts.append(
            f"## {name}\n\nPrinted by {who}. {_sentence(kind)} Schema: [{name}](schemas/{name.replace('/', '-')}.json)\n"
        )
        parts += [_fields_table(part) for part in _with_parts(kind)]
    return "\n".join(parts)


def schema_of(name: str, kind: type) -> dict[str, Any]:
    """The JSON Schema of a dataclass as `apr.reports.json` writes it: every field there, no other."""
    made: dict[str, Any] = TypeAdapter(kind).json_schema(mode="serialization")
    for title, part in [(kind.__name__, made), *made.get("$defs", {}).items()]:
        _close(title, part)
    made["properties"]["schema"] = {"const": name}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": name, **made}


def _close(title: str, part: dict[str, Any]) -> None:
    if "properties" not in part:
        return
    part["required"] = list(part["properties"])
    part["additionalProperties"] = False
    part.pop("description", None)  # docs/json.md says what the fields mean
    for name, field in part["properties"].items():
        field.pop("default", None)
        if (title, name) in NULLABLE:
            part["properties"][name] = {"anyOf": [{"type": "number"}, {"type": "null"}]}


def meaning_of(kind: type, field: str) -> str:
    """What a field means: from the dataclass's docstring, else from `MEANINGS`; empty if nobody says."""
    return (
        _from_docstring(kind).get(field)
        or MEANINGS.get(f"{kind.__name__}.{field}")
        or MEANINGS.get(f"{kind.__name__}.*")
        or MEANINGS.get(f"*.{field}")
        or (MEANINGS["schema"] if field == "schema" else "")
    )


def _from_docstring(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for line in (kind.__doc__ or "").splitlines():
        start = re.match(r"\s*((?:\w+)(?:, \w+)*):\s+(.*)", line)
        if start and all(name in kind.__annotations__ for name in start[1].split(", ")):
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2].strip())
        elif line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return {name: _last_of_line(text, kind, name) for name, text in found.items()}


def _last_of_line(text: str, kind: type, name: str) -> str:
    """A docstring line may hold two fields, `a:  one; b:  two`: the meaning of the first ends where the second begins."""
    others = "|".join(re.escape(other) for other in kind.__annotations__ if other != name)
    return re.split(rf";\s+(?:{others}):\s", text)[0] if others else text


def _fields_table(kind: type) -> str:
    rows = [f"### {kind.__name__}\n\n{_sentence(kind)}\n\n| field | type | meaning |\n|---|---|---|"]
    hints = typing.get_type_hints(kind)
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.name != "schema")
    for field in fields:
        meaning = meaning_of(kind, field.name).replace("|", "\\|")
        rows.append(f"| `{field.name}` | {_type_name(hints[field.name])} | {meaning} |")
    return "\n".join(rows) + "\n"


def _with_parts(kind: type) -> list[type]:
    """A dataclass and every dataclass inside it, in the order they are met."""
    found = [kind]
    for met in found:
        for hint in typing.get_type_hints(met).values():
            found += [part for part in _dataclasses_in(hint) if part not in found]
    return found


def _dataclasses_in(hint: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from _dataclasses_in(inner)


def _type_name(hint: Any) -> str:
    inner = [_type_name(arg) for arg in typing.get_args(hint) if arg is not Ellipsis]
    if typing.get_origin(hint) is typing.Literal:
        return "string"
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is tuple:
        is_list = typing.get_args(hint)[-1] is Ellipsis
        return f"list of {inner[0]}" if is_list else f"[{', '.join(inner)}]"
    if typing.get_origin(hint) in (dict, Mapping):
        return f"object of {inner[1]}"
    if inner:
        return " or ".join(inner)
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "string", int: "integer", float: "number", bool: "boolean", Path: "string"}.get(hint, "any")


def _sentence(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").strip()


def _exit_table() -> str:
    rows = "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items())
    return f"| exit code | meaning |\n|---|---|\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
