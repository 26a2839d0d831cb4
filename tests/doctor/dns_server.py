"""NSD, a real name server, with one zone: the root, so that nothing is looked up anywhere else."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query

from tests.ports import free_port
from tests.programs import program

_HEAD = """\
. 3600 IN SOA ns. op. 1 3600 600 86400 60
. 3600 IN NS ns.
ns. 3600 IN A 127.0.0.1
"""


@contextlib.contextmanager
def name_server(folder: Path, zone: str) -> Iterator[str]:
    """Serve the lines of a zone file; give the server's address and port."""
    port = free_port()
    (folder / "root.zone").write_text(_HEAD + zone, encoding="ascii")
    config = folder / "nsd.conf"
    config.write_text(
        f"""\
server:
  ip-address: 127.0.0.1@{port}
  zonesdir: "{folder}"
  database: ""
  username: ""
  chroot: ""
  pidfile: ""
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  xfrdir: "{folder}"
  logfile: "{folder}/log"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: root.zone
""",
        encoding="ascii",
    )
    process = subprocess.Popen([program("nsd"), "-d", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError, EOFError):
                dns.query.tcp(dns.message.make_query("ns.", "A"), "127.0.0.1", timeout=1, port=port)
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
