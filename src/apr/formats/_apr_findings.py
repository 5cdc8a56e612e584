"""What to do with a defect of an `.apr` file: strict readers raise it, the lenient reader keeps it as a warning.

Upstream's own readers accept many files that are damaged or ambiguous. Every such defect goes through `defect`; what
no reader can make sense of is raised where it is found.
"""

from __future__ import annotations

from apr.errors import FormatError
from apr.formats._base import Warned


class Findings:
    """Strict: the first defect is raised. `warnings` holds what is legal and still worth knowing."""

    def __init__(self) -> None:
        self.warnings: list[Warned] = []

    def warn(self, code: str, message: str) -> None:
        """Keep a warning; its code is `apr.` and a word that never changes."""
        self.warnings.append(Warned(f"apr.{code}", message))

    def defect(self, error: FormatError) -> None:
        """Raise an error that at least one upstream reader would overlook."""
        raise error


class LenientFindings(Findings):
    """Defects that some upstream reader overlooks become warnings, with the error's code and text."""

    def defect(self, error: FormatError) -> None:
        """Keep the error as a warning."""
        self.warn(error.code, str(error))
