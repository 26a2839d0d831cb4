"""Ctrl-C ends a command, wherever it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import signal, sys, time, weakref
from mailer import cli

class Gone:
    def __del__(self):
        if sys.argv[1] == "finalizer":
            signal.raise_signal(signal.SIGINT)

def command(**options):
    gone = Gone()
    callback = lambda _: sys.argv[1] == "weak reference" and signal.raise_signal(signal.SIGINT)
    reference = weakref.ref(gone, callback)
    del gone
    if sys.argv[1] == "itself":
        signal.raise_signal(signal.SIGINT)
    time.sleep(30)

cli.mailer.main = command
cli.main(["status"])
"""


@pytest.mark.parametrize("place", ["itself", "finalizer", "weak reference"])
def test_interrupt_ends_a_command(place: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, place], capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
