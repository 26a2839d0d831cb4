"""A PostgreSQL server of the tests' own: Debian's, on a free port, its files thrown away afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from tests.programs import program

_SETTINGS = {"fsync": "off", "unix_socket_directories": "''", "listen_addresses": "127.0.0.1"}


class Server:
    """A running server; every test gets a schema of its own, which is made faster than a database."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._numbers = count(1)

    def new_database(self) -> str:
        """Make an empty schema, which is a database to whoever has its URL; return that, for SQLAlchemy."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(f"postgresql://{self._address}", autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://{self._address}?options=-csearch_path%3D{name}"

    @property
    def _address(self) -> str:
        return f"postgres@127.0.0.1:{self.port}/postgres"


@contextmanager
def running() -> Iterator[Server]:
    """Run a server; skip the test (or fail it under CI) where PostgreSQL is not installed."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = program("initdb", *(str(folder / "initdb") for folder in binaries))
    # PostgreSQL refuses to run as root.
    root = os.geteuid() == 0
    owner = pwd.getpwnam("postgres").pw_uid if root else os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="mailer-postgres-"))
    shutil.chown(folder, owner)
    data, ctl = folder / "data", str(Path(initdb).with_name("pg_ctl"))

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=owner if root else None
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = " ".join(f"-c {name}={value}" for name, value in {**_SETTINGS, "port": port}.items())
    try:
        run(initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
        run(ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Server(port)
        finally:
            run(ctl, "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
