"""The programs of tests/install/node, run with Node.js."""

from __future__ import annotations

import subprocess
from typing import Final

from tests.conftest import PROJECT
from tests.programs import missing, program

FOLDER: Final = PROJECT / "tests" / "install" / "node"


def node(script: str, given: bytes, *arguments: str) -> str:
    """Return what a script prints when it is given `given`; skip the test if its packages are not here."""
    if not (FOLDER / "node_modules" / ".complete").exists():
        missing("what tests/install/node.sh installs")
    done = subprocess.run(
        [program("node", "nodejs"), script, *arguments],
        input=given,
        capture_output=True,
        cwd=FOLDER,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
