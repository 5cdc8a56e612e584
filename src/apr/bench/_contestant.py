"""A contestant, inside its process: a model under an engine, and one generation at a time through the function of `apr run`.

`python -c COMMAND` starts it; it answers requests (`_protocol`) until its input ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import apr.engines
from apr import _folder
from apr.bench import _protocol
from apr.engines._base import Activations, Loader, Session
from apr.engines._generate import PromptCache
from apr.engines._subject import OWN_ENGINE, Subject
from apr.models._checkpoint import Checkpoint

# not `-m` nor a script: its folder would come first on the path
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from apr.bench._contestant import main; main()"
_LLAMA_IS_FUSED = {"llama-cpp": True, "llama-cpp-noflash": False}


def command() -> list[str]:
    """The command line of a contestant that imports what this process imports."""
    return [sys.executable, "-c", _CHILD, json.dumps(sys.path)]


class Contestant:
    """One loaded model. Its methods are the requests."""

    def prepare(self, engine: str) -> dict[str, Any]:
        """Import what loading would import: that is not loading time."""
        _folder.load(apr.engines.__name__, engine)
        if engine == OWN_ENGINE:
            from apr.engines import _native_session  # noqa: F401
        elif engine in _LLAMA_IS_FUSED:
            from apr.engines._llama_library import library

            library()
        elif engine == "transformers":
            import transformers  # noqa: F401
        return {}

    def load(self, reference: str, engine: str, threads: int, activations: Activations) -> dict[str, Any]:
        """Make a model ready. Of an engine that is not ours only its own loading counts, which reads file and vocabulary itself."""
        started = time.perf_counter()
        subject = Subject(reference, engine, threads=threads, activations=activations, loader=_loader(engine))
        if engine != OWN_ENGINE:
            _ = subject.checkpoint, subject.tokenizer, subject.template
            started = time.perf_counter()
        self.model = subject.language_model
        load_s = time.perf_counter() - started
        self.cache = PromptCache(self.model.session)
        return {"load_s": load_s, "engine": _facts(self.model.session)}

    def generate(self, text: str, new_tokens: int) -> dict[str, Any]:
        """Write greedily after a text, past every stop token: tokens, and the timings of the run record.

        The cache of keys and values is emptied, and kept: no engine makes its memory anew in the middle of a timing.
        """
        self.cache.cache.truncate(0)
        run = self.model.run(text, regime="raw", max_tokens=new_tokens, at_eos="ignore", prompt_cache=self.cache)
        for _ in run:
            pass
        timings = asdict(run.timings())
        return {
            **timings,
            "prompt_tokens": len(run.prompt.token_ids),
            "token_ids": [step.token_id for step in run.steps],
            **_protocol.memory(),
        }

    def prove(
        self,
        reference: str,
        engines: Mapping[str, str],
        texts: Mapping[str, str],
        new_tokens: int,
        threads: list[int],
        activations: Activations,
    ) -> dict[str, Any]:
        """`_equality.prove`, in a process of its own: what it holds and what it does to the caches is gone with it."""
        from apr.bench import _equality

        expected, checks, agreements = _equality.prove(
            reference,
            engines,
            {int(length): text for length, text in texts.items()},
            new_tokens=new_tokens,
            threads=threads,
            activations=activations,
        )
        return {
            "expected": expected,
            "greedy": [asdict(check) for check in checks],
            "agreements": [asdict(found) for found in agreements],
        }


def main() -> None:
    """Serve one contestant."""
    _protocol.serve(Contestant())


def _loader(engine: str) -> Loader | None:
    is_fused = _LLAMA_IS_FUSED.get(engine)
    return partial(_llama_without_trial, is_fused) if is_fused is not None else None


def _llama_without_trial(
    is_fused: bool,
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> Session:
    """llama.cpp without the try in another process, which is our caution and not its loading; the proof has made it."""
    from apr.engines._llama_library import library
    from apr.engines._llama_session import LlamaSession

    del progress
    return LlamaSession(library(), checkpoint, threads=threads, activations=activations, is_fused=is_fused)


def _facts(session: Session) -> dict[str, Any]:
    return {
        "engine_version": session.engine_version,
        "kernel_set": session.kernel_set,
        "instruction_set": session.instruction_set,
        "activations": session.activations,
        "kv_cache": session.kv_cache_dtype,
    }
