"""What a caller may implement to see a download move."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A display of one running transfer at a time. `start` may come again, for the next file or after a cut."""

    def start(self, what: str, total_bytes: int | None) -> None:
        """A transfer begins; the count is at zero. total_bytes is None where the server does not say."""

    def advance(self, n_bytes: int) -> None:
        """n_bytes more are here; bytes that an earlier, interrupted run left are counted too."""

    def finish(self) -> None:
        """The transfer that was started last is over, well or not."""


class _Silent:
    def start(self, what: str, total_bytes: int | None) -> None:
        pass

    def advance(self, n_bytes: int) -> None:
        pass

    def finish(self) -> None:
        pass


SILENT: Progress = _Silent()
