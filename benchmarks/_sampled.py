"""Run `mailer` with the arguments after the first, and write where its CPU time went to that file, as JSON.

A timer of CPU time interrupts the process each few milliseconds. Each thread's CPU time since the sample
before is added to the function it is in, so the sum is what the process took. A thread that samples would
not do: it gets the interpreter when the others wait, and would see them waiting.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from mailer.cli import main

_EVERY_SECONDS = 0.001
"""The kernel rounds it up to its own tick."""
_DEEPEST = 80
SIGNING_PROCESS = "the signing process"
"""Stands for the functions of the only child of a run."""
Stack = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """The CPU time of a process and its child, in seconds.

    `stacks` has functions as `path:name`, the innermost first.
    """

    total: float
    kernel: float
    garbage: float
    sampling: float
    stacks: Sequence[tuple[Stack, float]]


class Sampler:
    """Samples all threads of this process, from the main thread."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._before: dict[int, int] = {}
        self._found: Counter[Stack] = Counter()
        self._sampling = self._garbage = self._collecting = 0

    def start(self) -> None:
        """Begin to sample."""
        gc.callbacks.append(self._collect)
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)

    def finish(self) -> Account:
        """Stop, and return what was found."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._sample(signal.SIGPROF, None)
        own = (time.process_time_ns() - self._sampling) / 1e9
        kernel = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        signing = children.ru_utime + children.ru_stime
        self._found[(SIGNING_PROCESS,)] += int(signing * 1e9)
        return Account(
            own + signing,
            kernel + children.ru_stime,
            self._garbage / 1e9,
            self._sampling / 1e9,
            [(stack, used / 1e9) for stack, used in self._found.items()],
        )

    def _sample(self, number: int, frame: FrameType | None) -> None:
        began = time.thread_time_ns()
        for thread, inner in sys._current_frames().items():
            if thread == self._main:
                inner, used = frame or inner, began
            else:
                try:
                    used = time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
                except OSError:  # it has ended
                    continue
            before = self._before.get(thread, 0)
            if thread != self._main and used < before:
                # It is a new one, with the number of one that has ended.
                before = 0
            if more := used - before:
                self._found[_stack(inner)] += more
            self._before[thread] = used
        self._before[self._main] = time.thread_time_ns()
        self._sampling += self._before[self._main] - began

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time_ns()
        else:
            self._garbage += time.thread_time_ns() - self._collecting


def _stack(frame: FrameType | None) -> Stack:
    names: list[str] = []
    while frame is not None and len(names) < _DEEPEST:
        code = frame.f_code
        names.append(f"{code.co_filename.rpartition('site-packages' + os.sep)[2]}:{code.co_name}")
        frame = frame.f_back
    return tuple(names)


if __name__ == "__main__":
    report = Path(sys.argv.pop(1))
    sampler = Sampler()
    sampler.start()
    try:
        main()
    finally:
        report.write_text(json.dumps(asdict(sampler.finish())), encoding="utf-8")
