"""The most memory that a process has taken.

As a program: run `mailer` with the arguments after the first, and write its peak to the file named by that.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from mailer.cli import main


def peak_megabytes() -> float:
    """Return the most memory in MB that this process has taken.

    `ru_maxrss` would not do on Linux: it includes what the parent took when it started this process
    (getrusage(2)).
    """
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024.0


if __name__ == "__main__":
    report = Path(sys.argv.pop(1))
    try:
        main()
    finally:
        report.write_text(str(peak_megabytes()), encoding="ascii")
