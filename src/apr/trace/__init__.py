"""What happened inside a run: figures or whole tensors of every slot, by layer and position; kept, and compared later.

from apr.trace import load_trace, trace

seen = trace("model.gguf", "def fib(n):", regime="raw", save=Path("a.npz"))
"""

from __future__ import annotations

from apr.trace.capture import trace
from apr.trace.compare import compare, compare_run
from apr.trace.record import SlotTrace, Trace, TraceHeader
from apr.trace.selection import Selection
from apr.trace.store import SavedTrace, load_trace

__all__ = [
    "SavedTrace",
    "Selection",
    "SlotTrace",
    "Trace",
    "TraceHeader",
    "compare",
    "compare_run",
    "load_trace",
    "trace",
]
