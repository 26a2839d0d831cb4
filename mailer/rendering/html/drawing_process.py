"""The child process of `drawings`: draws an SVG from standard input and answers with a PNG.

It runs as a file of its own, without the rest of mailer, because it may run out of memory or of stack.
"""

from __future__ import annotations

import sys
from typing import Final

import resvg_py

_MAX_MEMORY_OCTETS: Final = 1 << 30
_MAX_CPU_SECONDS: Final = 10


def main() -> None:
    """Draw at the width in pixels that the first argument names."""
    _limit()
    drawing = sys.stdin.buffer.read().decode()
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=int(sys.argv[1]), dpi=96, skip_system_fonts=True)
    sys.stdout.buffer.write(png)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_OCTETS, _MAX_MEMORY_OCTETS))
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_SECONDS, _MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
