"""Every error of ours, as one tree.

    AprError                   the user can act on it: printed without a traceback, exit 2 unless it says otherwise
      UsageError               the request itself is wrong: a flag, a combination, a name
      FormatError              exit 3: bytes break the rules of their format (path, byte offset, found, expected)
        BadMagic               not this format
        ForeignFormat          a look-alike, named
        UnsupportedVersion     a version that we cannot read
        TruncatedFile          the file ends before what it announces
        LimitExceeded          a count or a length over the documented cap
        BadString              text that is not UTF-8, empty or too long
        BadMetadata            a key or value with the wrong type or out of range
        DuplicateName          a key or a tensor twice
        UnknownDtype           a tensor type that the format does not define
        ShapeMismatch          dimensions that do not fit the type or the byte count
        BadOffset              sections that lie out of order or on top of each other
        MisalignedTensor       data that does not start where the format says it must
        OverlappingTensors     two tensors on the same bytes, or a hole between them
        TensorOutOfBounds      data beyond the end of the file
        UnsortedIndex          an index that is not in the order its format demands
        ChecksumMismatch       stored and computed checksums differ
        ForbiddenFlag          a flag that changes the meaning of the bytes in a way we refuse
        TrailingBytes          bytes after the end that the format announces
        HostileFile            not a plain file, or a file that changed while it was read
        PredictionError        a file of predictions that does not say what it has to say
      TokenizerError           exit 3: a vocabulary, merges or special ids that do not fit together
      TemplateError            exit 3: a chat template that fails, is unsafe or breaks its limits
      UnsupportedError         valid, but not done here (architecture, codec, rope type): lists what is
      MissingDependency        says which extra to install
      MissingTensor            exit 3: the architecture needs a tensor that the file does not have
      ConversionError          a conversion that would lose something, or whose read-back differs
      ContractError            a contract that cannot be read, or a check in it that cannot be run
      HubError                 a model could not be found or fetched
        ChecksumError          exit 3: fetched bytes are not the ones that were promised
        OfflineError           the network is needed and closed
      EngineError              exit 4: an engine failed to start or to answer
    InternalError              not an AprError: a bug of ours; traceback with --debug, exit 4

A message has three parts: what was found, what was expected, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


class AprError(Exception):
    """An error that the user can act on."""

    exit_code = 2

    @property
    def code(self) -> str:
        """A stable reason code: the class name in kebab case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()


class UsageError(AprError):
    """The request itself is wrong."""


class FormatError(AprError):
    """Bytes that break the rules of their format.

    path:    the file
    offset:  the byte where the rule is broken, from the start of the file; None where there is no single byte
    """

    exit_code = 3

    def __init__(self, path: Path | str, message: str, *, offset: int | None = None) -> None:
        self.path = Path(path)
        self.offset = offset
        where = f"{path}: byte {offset}: " if offset is not None else f"{path}: "
        super().__init__(where + message)


class BadMagic(FormatError):
    """The first bytes are not those of the format."""


class ForeignFormat(FormatError):
    """A file that looks like the format and is something else, which the message names."""


class UnsupportedVersion(FormatError):
    """A version of the format that we cannot read."""


class TruncatedFile(FormatError):
    """The file ends before what it announces."""


class LimitExceeded(FormatError):
    """A count or a length over the documented cap."""


class BadString(FormatError):
    """A text that is not UTF-8, is empty where it must not be, or holds a NUL."""


class BadMetadata(FormatError):
    """A metadata key or value with the wrong type or out of range."""


class DuplicateName(FormatError):
    """A metadata key or a tensor name that occurs twice."""


class UnknownDtype(FormatError):
    """A tensor type that the format does not define."""


class ShapeMismatch(FormatError):
    """Dimensions that do not fit the tensor's type or byte count."""


class BadOffset(FormatError):
    """Sections of a file that lie out of order or on top of each other."""


class MisalignedTensor(FormatError):
    """Data that does not start where the format says it must."""


class OverlappingTensors(FormatError):
    """Two tensors on the same bytes, or a hole between them."""


class TensorOutOfBounds(FormatError):
    """Tensor data beyond the end of the file."""


class UnsortedIndex(FormatError):
    """A tensor index that is not in the order its format demands."""


class ChecksumMismatch(FormatError):
    """A stored checksum that differs from the computed one."""


class ForbiddenFlag(FormatError):
    """A flag that changes the meaning of the bytes in a way we refuse."""


class TrailingBytes(FormatError):
    """Bytes after the end that the format announces."""


class HostileFile(FormatError):
    """Not a plain file, or a file that changed while it was read."""


class PredictionError(FormatError):
    """A file of predictions that is not in its form: what was found, what was expected.

    line:  counted from 1; None where there is no single line
    """

    def __init__(self, path: Path | str, message: str, *, line: int | None = None) -> None:
        self.line = line
        super().__init__(path, f"line {line}: {message}" if line is not None else message)


class TokenizerError(AprError):
    """A tokenizer whose parts (vocabulary, types, merges, special ids) do not fit together."""

    exit_code = 3


class TemplateError(AprError):
    """A chat template that fails, is unsafe, or breaks its limits."""

    exit_code = 3


class UnsupportedError(AprError):
    """Valid, but not done here; `known` lists what is."""

    def __init__(self, message: str, *, known: Sequence[str] = ()) -> None:
        self.known = tuple(known)
        super().__init__(f"{message}; known: {', '.join(known)}" if known else message)


class MissingDependency(AprError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"the package {package!r} is not installed; run: pip install 'apr[{extra}]'")


class MissingTensor(AprError):
    """The architecture needs a tensor that the file does not have."""

    exit_code = 3


class ConversionError(AprError):
    """A conversion that would lose something, or whose read-back differs."""


class ContractError(AprError):
    """A contract that cannot be read, or a check in it that cannot be run.

    path:  the file
    line:  counted from 1; None where there is no single line
    """

    def __init__(self, path: Path | str, message: str, *, line: int | None = None) -> None:
        self.path = Path(path)
        self.line = line
        super().__init__(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


class HubError(AprError):
    """A model could not be found or fetched."""


class ChecksumError(HubError):
    """Fetched bytes are not the ones that were promised."""

    exit_code = 3


class OfflineError(HubError):
    """The network is needed, and it is closed."""


class EngineError(AprError):
    """An engine failed to start or to answer."""

    exit_code = 4


class InternalError(Exception):
    """A bug of ours."""
