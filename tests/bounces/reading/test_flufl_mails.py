"""The mails that flufl.bounce is tested with: each recipient that it expects is found."""

from __future__ import annotations

import ast
import sys
import tarfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mailer.bounces.reading.report import parse_report
from tests.conftest import missing


@cache
def expected_and_mails() -> tuple[dict[str, set[str]], dict[str, bytes]]:
    """Return the recipients expected of each file, and the files, from the source that `make setup` keeps."""
    source = Path(sys.prefix, "share", f"flufl_bounce-{version('flufl.bounce')}.tar.gz")
    if not source.exists():
        missing(str(source))
    expected: dict[str, set[str]] = {}
    mails: dict[str, bytes] = {}
    with tarfile.open(source) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is None:
                continue
            if "/tests/data/" in member.name:
                mails[member.name.rpartition("/")[2]] = file.read()
            elif member.name.endswith("/tests/test_detectors.py"):
                for _, name, addresses, _ in _table(file.read()):
                    expected.setdefault(name, set()).update(one.decode().lower() for one in addresses)
    return expected, mails


def _table(source: bytes) -> list[tuple[str, str, list[bytes], bool]]:
    """Return the table of detector, file, recipients and whether temporary, read without running it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DETECTORS":
            rows: list[tuple[str, str, list[bytes], bool]] = ast.literal_eval(node.value)
            return rows
    raise AssertionError("the table of expected recipients has moved")


def test_every_recipient_that_flufl_expects_is_found() -> None:
    expected, mails = expected_and_mails()
    assert len(expected) >= 111
    for name, addresses in expected.items():
        found = {
            address.lower()
            for one in parse_report(mails[name]).recipients
            for address in (one.address, one.original_address)
        }
        assert (name, set()) == (name, addresses - found)


def test_all_its_messages_are_read() -> None:
    _, mails = expected_and_mails()
    assert len(mails) >= 111
    for raw in mails.values():
        assert all(one.address.count("@") == 1 for one in parse_report(raw).recipients)
