"""Run `mailer` with the arguments after the first, and write how long its event loop was held, as JSON.

Each call that the loop makes is timed by the CPU time of its thread: what a connection has received, and each
step of a task. While one runs, all other connections wait.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from mailer.cli import main
from mailer.smtp import wire

_held: list[int] = []
"""The nanoseconds of each call."""


def _timed(call: Callable[..., Any]) -> Callable[..., Any]:
    def run(*values: Any) -> Any:
        began = time.thread_time_ns()
        try:
            return call(*values)
        finally:
            _held.append(time.thread_time_ns() - began)

    return run


class _Loop(uvloop.Loop):
    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return super().call_soon(_timed(callback), *args, context=context)


if __name__ == "__main__":
    report = Path(sys.argv.pop(1))
    uvloop.run = partial(uvloop.run, loop_factory=_Loop)
    wire.Wire.data_received = _timed(wire.Wire.data_received)  # type: ignore[method-assign]
    try:
        main()
    finally:
        report.write_text(json.dumps([one / 1e6 for one in _held]), encoding="utf-8")
