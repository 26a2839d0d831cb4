"""What is lost or comes twice when a worker or PostgreSQL fails while an issue is sent, a line a fault.

Takes up to an hour, so it runs only when it is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import Figure
from tests.cluster.faults import FAULTS, ON_THE_WIRE, Cell, run

ONLY_BY_NAME = True


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which faults, how many workers and how long."""
    parser.add_argument("--faults", nargs="*", default=[*FAULTS], choices=[*FAULTS], metavar="FAULT")
    parser.add_argument("--faults-workers", nargs="*", type=int, default=[1, 2, 4], metavar="N")
    parser.add_argument("--faults-seconds", type=float, default=60.0, metavar="S", help="how long each lasts")
    parser.add_argument("--faults-policies", nargs="*", default=["resend", "hold"], metavar="POLICY")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield how many people got the issue twice; nobody may be lost, and the books must be true."""
    for policy in options.faults_policies:
        for workers in options.faults_workers:
            for fault in options.faults:
                found = run(Cell(fault, workers, policy, options.faults_seconds))
                books = "true" if found.is_true else f"WRONG {found.books}"
                log = "calm" if found.is_calm else "NOT CALM"
                yield Figure(
                    "faults",
                    f"{fault}, {workers} workers, {policy}: {found.lost} lost, {found.books.uncertain} held,"
                    f" books {books}, log {log}, settled after {found.seconds:.0f} s; doubled",
                    found.doubled,
                    bar=f"<= {0 if policy == 'hold' else ON_THE_WIRE}",
                    holds=found.holds(policy),
                )
                if not found.holds(policy):
                    print(found.said)
