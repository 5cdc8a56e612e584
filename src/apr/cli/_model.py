"""Loading a model for a command, with its progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from apr import hub
from apr.cli import _progress
from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.engines._base import Activations
    from apr.engines._language_model import LanguageModel


@contextlib.contextmanager
def loaded(
    reference: str,
    *,
    engine: str,
    threads: int | None,
    activations: Activations,
    verbosity: _progress.Verbosity = "normal",
) -> Iterator[LanguageModel]:
    """The model that a reference names, pulled first if it is not here, loaded, and closed at the end.

    reference:  MODEL, or MODEL@ENGINE, which goes before `engine`
    """
    from apr.engines._subject import parse

    address = parse(reference)
    if address.engine == "openai":
        raise UsageError(
            f"{reference} is an endpoint, which is compared with a model; next: apr parity MODEL {reference}"
        )
    if address.reference != reference:
        reference, engine = address.reference, address.engine
    with _progress.downloading(verbosity=verbosity) as download:
        path = hub.resolve(reference, progress=download)
    from apr.engines._language_model import default_threads, of_file
    from apr.formats import open_model

    file = open_model(path)

    def total_bytes() -> int:
        return sum(info.n_bytes for info in file.tensors.values())

    with _progress.working(f"loading {path.name}", total_bytes, verbosity=verbosity) as advance:
        model = of_file(
            file, engine=engine, threads=threads or default_threads(), activations=activations, progress=advance
        )
    with model:
        yield model
