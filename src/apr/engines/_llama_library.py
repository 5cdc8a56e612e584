"""llama.cpp's shared library: found in an installed package, and bound by its C interface (llama.h, ggml.h).

Two packages carry it. `llama-cpp-python` also carries the layout of the two parameter structures, as ctypes; that of
`xllamacpp` is known only as far as the default values show it, so the fields that we set are looked for by the pattern of
the defaults around them. A structure that does not show the pattern is handed on as it came: no field is ever written at
an offset that was guessed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections import deque
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apr.errors import EngineError, MissingDependency

EXTRA = "llama-cpp"
FLASH_ATTENTION_OFF = 0  # llama.h, LLAMA_FLASH_ATTN_TYPE_DISABLED
KV_FLOAT32 = 0  # ggml.h, GGML_TYPE_F32
_LOG_ERROR = 4  # ggml.h, GGML_LOG_LEVEL_ERROR
_PARAMETER_BYTES = 1024  # both structures are under 200 bytes; what follows them is whatever the memory held
_SEARCHED_BYTES = 128
_FIELDS = ("n_ctx", "n_batch", "n_ubatch", "flash_attn_type", "cb_eval", "type_k", "type_v")

_pointer, _int, _size, _text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t, ctypes.c_char_p


class Parameters(ctypes.Structure):
    """A parameter structure of either kind: opaque, and larger than any of llama.cpp's."""

    _fields_ = (("bytes", ctypes.c_uint64 * (_PARAMETER_BYTES // 8)),)


class Batch(ctypes.Structure):
    """llama.h, `llama_batch`, with room for what may be appended to it."""

    _fields_ = (
        ("n_tokens", _int),
        *((name, _pointer) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")),
        ("room", ctypes.c_uint64 * 8),
    )


LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
EvalCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [LogCallback, _pointer]),
    "llama_print_system_info": (_text, []),
    "llama_model_default_params": (Parameters, []),
    "llama_context_default_params": (Parameters, []),
    "llama_model_load_from_file": (_pointer, [_text, Parameters]),
    "llama_model_free": (None, [_pointer]),
    "llama_model_meta_val_str": (_int, [_pointer, _text, _text, _size]),
    "llama_init_from_model": (_pointer, [_pointer, Parameters]),
    "llama_free": (None, [_pointer]),
    "llama_n_ctx": (ctypes.c_uint32, [_pointer]),
    "llama_set_n_threads": (None, [_pointer, _int, _int]),
    "llama_batch_get_one": (Batch, [_pointer, _int]),
    "llama_decode": (_int, [_pointer, Batch]),
    "llama_get_logits": (_pointer, [_pointer]),
    "llama_get_memory": (_pointer, [_pointer]),
    "llama_memory_seq_rm": (ctypes.c_bool, [_pointer, _int, _int, _int]),
    "llama_state_seq_get_size": (_size, [_pointer, _int]),
    "llama_state_seq_get_data": (_size, [_pointer, _pointer, _size, _int]),
    "llama_state_seq_set_data": (_size, [_pointer, _pointer, _size, _int]),
    "llama_model_get_vocab": (_pointer, [_pointer]),
    "llama_vocab_n_tokens": (_int, [_pointer]),
    "llama_vocab_bos": (_int, [_pointer]),
    "llama_vocab_eos": (_int, [_pointer]),
    "llama_vocab_get_text": (_text, [_pointer, _int]),
    "llama_tokenize": (_int, [_pointer, _text, _int, _pointer, _int, ctypes.c_bool, ctypes.c_bool]),
    "llama_token_to_piece": (_int, [_pointer, _int, _text, _int, _int, ctypes.c_bool]),
    "ggml_version": (_text, []),
    "ggml_get_name": (_text, [_pointer]),
    "ggml_op_desc": (_text, [_pointer]),
    "ggml_nbytes": (_size, [_pointer]),
    "ggml_nelements": (ctypes.c_int64, [_pointer]),
    "ggml_element_size": (_size, [_pointer]),
    "ggml_get_data": (_pointer, [_pointer]),
    "ggml_backend_tensor_get": (None, [_pointer, _pointer, _size, _size]),
    "ggml_backend_tensor_set": (None, [_pointer, _pointer, _size, _size]),
}


class Library:
    """The bound functions, as attributes by their C names, and what is known of the parameter structures.

    package, version:  what it was found in
    context_offsets:   field -> byte in `llama_context_params`; empty if the structure is not understood
    vocab_only_at:     byte in `llama_model_params`; None if that structure is not understood
    """

    def __init__(self, handle: ctypes.CDLL, *, package: str, structures: Any | None = None) -> None:
        self.package = package
        self.version = metadata.version(package)
        self.errors: deque[str] = deque(maxlen=20)
        for name, (result, arguments) in _FUNCTIONS.items():
            try:
                function = getattr(handle, name)
            except AttributeError as exc:
                raise EngineError(f"llama.cpp of {package} {self.version} has no {name}; install a newer one") from exc
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._log = LogCallback(self._keep_errors)  # llama.cpp calls it for as long as the process lives
        call: Any = self
        call.llama_log_set(self._log, None)
        call.llama_backend_init()
        if structures is not None:
            self.context_offsets = _offsets_of(structures.llama_context_params, _FIELDS)
            self.vocab_only_at = _offsets_of(structures.llama_model_params, ("vocab_only",)).get("vocab_only")
        else:
            self.context_offsets = context_offsets(bytes(call.llama_context_default_params()))
            self.vocab_only_at = vocab_only_at(bytes(call.llama_model_default_params()))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # for the type checker: the functions are attributes that `__init__` makes

    @property
    def can_tap(self) -> bool:
        """Whether the place of the evaluation callback is known."""
        return "cb_eval" in self.context_offsets

    @property
    def name(self) -> str:
        """Package and versions, for the run record."""
        return f"{self.package} {self.version} (ggml {self.ggml_version().decode()})"

    def why(self, *, otherwise: str) -> str:
        """The last errors that llama.cpp logged, as one line."""
        return "; ".join(self.errors) or otherwise

    def load_model(self, path: Path, *, vocab_only: bool) -> int:
        """A model's handle. Raises EngineError with llama.cpp's reason."""
        raw = bytearray(bytes(self.llama_model_default_params()))
        if vocab_only and self.vocab_only_at is not None:
            raw[self.vocab_only_at] = 1
        self.errors.clear()
        handle: int | None = self.llama_model_load_from_file(os.fsencode(path), Parameters.from_buffer_copy(raw))
        if not handle:
            raise EngineError(f"{path}: llama.cpp refuses the file: {self.why(otherwise='it gives no reason')}")
        return handle

    def open_context(self, model: int, fields: Mapping[str, int]) -> int:
        """A context's handle; fields that the structure is not known to have are left as they are. Raises EngineError."""
        raw = bytearray(bytes(self.llama_context_default_params()))
        for name, value in fields.items():
            if name in self.context_offsets:
                struct.pack_into("<Q" if name == "cb_eval" else "<i", raw, self.context_offsets[name], value)
        self.errors.clear()
        handle: int | None = self.llama_init_from_model(model, Parameters.from_buffer_copy(raw))
        if not handle:
            raise EngineError(f"llama.cpp could not make a context: {self.why(otherwise='it gives no reason')}")
        return handle

    def _keep_errors(self, level: int, text: bytes | None, _: Any) -> None:
        if level == _LOG_ERROR and text and text.strip():
            self.errors.append(text.decode("utf-8", "replace").strip())


def context_offsets(defaults: bytes) -> dict[str, int]:
    """Offsets of the fields that we set in `llama_context_params`, from its default values; empty if they are not as expected.

    llama.h of 2025 and 2026: n_ctx 512, n_batch 2048, n_ubatch 512 … flash_attn_type -1, rope_freq_base 0, rope_freq_scale 0,
    four YaRN factors -1.0, yarn_orig_ctx 0, defrag_thold -1.0, cb_eval NULL, its user data NULL, type_k and type_v 1 (F16),
    abort_callback NULL, its data NULL.
    """
    if defaults[:12] != struct.pack("<3I", 512, 2048, 512):
        return {}
    before = struct.pack("<i2f4fIf", -1, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 0, -1.0)
    start = next((at for at in range(12, _SEARCHED_BYTES, 4) if defaults[at : at + len(before)] == before), None)
    if start is None:
        return {}
    callback = -(-(start + len(before)) // 8) * 8  # a pointer, aligned
    after = struct.pack("<QQiiQQ", 0, 0, 1, 1, 0, 0)
    if defaults[callback : callback + len(after)] != after:
        return {}
    known = {"n_ctx": 0, "n_batch": 4, "n_ubatch": 8, "flash_attn_type": start, "cb_eval": callback}
    return known | {"type_k": callback + 16, "type_v": callback + 20}


def vocab_only_at(defaults: bytes) -> int | None:
    """The offset of `vocab_only` in `llama_model_params`, from its default values; None if they are not as expected.

    It is the first of the flags that follow the pointers progress_callback, its data and kv_overrides, all NULL; by default the
    flags vocab_only, check_tensors, use_extra_bufts, no_host and no_alloc are 0 0 1 0 0.
    """
    expected = bytes(24) + bytes((0, 0, 1, 0, 0))
    starts = range(24, _SEARCHED_BYTES, 8)
    return next((at + 24 for at in starts if defaults[at : at + len(expected)] == expected), None)


@cache
def library() -> Library:
    """llama.cpp, from llama-cpp-python if that is installed, else from xllamacpp. Raises MissingDependency, EngineError."""
    if find_spec("llama_cpp") is not None:
        import llama_cpp.llama_cpp as bindings

        return Library(bindings._lib, package="llama-cpp-python", structures=bindings)
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise MissingDependency("xllamacpp", extra=EXTRA)
    with contextlib.suppress(StopIteration):
        found = next(Path(spec.origin).parent.glob("xllamacpp*.so"))
        return Library(ctypes.CDLL(str(found)), package="xllamacpp")
    raise EngineError(f"the package xllamacpp in {Path(spec.origin).parent} has no shared library; install it again")


def _offsets_of(structure: Any, names: tuple[str, ...]) -> dict[str, int]:
    return {name: getattr(structure, name).offset for name in names if hasattr(structure, name)}
