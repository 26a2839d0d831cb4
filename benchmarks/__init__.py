"""Every figure that the project claims, as a command: `python -m benchmarks [NAME…] [--json]`.

A benchmark is a module of this package with `measure(options) -> Iterator[Figure]`, its first
docstring line saying what it measures. Ours and the peer run in turn, in one call.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure beside the peer's and the bar it must meet.

    `ratio` is ours against the peer's, written so that it is compared with `bar` by `holds`;
    `peer`, `ratio` and `bar` are None where there is nothing to compare with.
    """

    benchmark: str
    figure: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None
    unit: str = ""

    def line(self) -> str:
        """Return the figure as one line for people."""
        parts = [f"{self.benchmark:<10} {self.figure:<44} ours {self.ours:,.4g} {self.unit}".rstrip()]
        if self.peer is not None:
            parts.append(f"peer {self.peer:,.4g}")
        if self.ratio is not None:
            parts.append(f"ratio {self.ratio:,.3g}")
        if self.bar is not None:
            parts.append(f"bar {self.bar}")
        if self.holds is not None:
            parts.append("holds" if self.holds else "MISSED")
        return "  ".join(parts)

    def json(self) -> str:
        """Return the figure as one JSON object on one line."""
        return json.dumps(asdict(self))
