"""Load by wrk over a list of paths, and what came back."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A request for each path in turn, and from the first again when there are no more.
_SCRIPT = """
local paths = {}
for line in io.lines(os.getenv("WRK_PATHS")) do paths[#paths + 1] = line end
local asked, body = 0, os.getenv("WRK_BODY")
local headers = {["Content-Type"] = "application/x-www-form-urlencoded"}
local method = body and "POST" or "GET"
function request()
  asked = asked + 1
  return wrk.format(method, paths[(asked - 1) % #paths + 1], headers, body)
end
function done(summary, latency, requests)
  io.write(string.format(
    '\\nWRK {"requests": %d, "microseconds": %d, "p99": %d, "wrong_status": %d, "broken": %d}\\n',
    summary.requests, summary.duration, latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk measured."""

    requests: int
    seconds: float
    p99_milliseconds: float
    errors: int

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return (self.requests - self.errors) / self.seconds


def load(
    port: int, paths: Sequence[str], *, body: str = "", connections: int = 64, seconds: int = 60
) -> Load:
    """Ask for the paths in turn for so many seconds: GET, or POST if there is a `body`."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is missing; install the Debian package of that name")
    with tempfile.TemporaryDirectory() as name:
        script, list_of_paths = Path(name) / "ask.lua", Path(name) / "paths"
        script.write_text(_SCRIPT, encoding="utf-8")
        list_of_paths.write_text("\n".join(paths), encoding="utf-8")
        environment = {"WRK_PATHS": str(list_of_paths)} | ({"WRK_BODY": body} if body else {})
        said = subprocess.run(
            [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script),
             f"http://127.0.0.1:{port}"],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout  # fmt: skip
    told = json.loads(said.rpartition("WRK ")[2])
    return Load(
        told["requests"],
        told["microseconds"] / 1e6,
        told["p99"] / 1e3,
        told["wrong_status"] + told["broken"],
    )
