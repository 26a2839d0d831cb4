"""The same source gives the same bytes, whatever process, machine or folder renders it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

_RENDER = """
import hashlib, sys
from datetime import UTC, datetime
from pathlib import Path
from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition
from mailer.rendering.message import Composer, Recipient
from mailer.rendering.source import read_issue
from mailer.tokens import Signer

newsletter = Newsletter(name="Week", author_address="ada@example.org")
edition = build_edition(
    read_issue(Path(sys.argv[1])), newsletter, Brand(), Path(sys.argv[2]), track_clicks=True,
    public_url="https://n.example",
)
composer = Composer(
    edition, issue_id=1, newsletter=newsletter, public_url="https://n.example",
    bounce_domain="b.example.org", unsubscribe_address="leave@b.example.org",
    signer=Signer([b"a secret of more than sixteen octets"]),
)
message = composer.compose(Recipient(5, "anna@example.net", "Anna"), datetime(2026, 3, 4, tzinfo=UTC))
digest = hashlib.sha256(repr(edition).encode()).hexdigest()
sys.stdout.buffer.write(digest.encode() + b"\\n" + message.content)
"""


def rendered(path: Path, folder: Path, **environment: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", _RENDER, str(path), str(PROJECT / "email_templates")],
        cwd=folder, capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("source", ["seed", "sample"])
def test_bytes_depend_on_the_source_alone(
    source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sample = PROJECT / "issues" / "001-a-bean-in-a-jar.md"
    path = request.getfixturevalue("seed") if source == "seed" else sample
    path = path.resolve()
    first = rendered(path, PROJECT, PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C.UTF-8")
    second = rendered(path, tmp_path, PYTHONHASHSEED="4711", TZ="Asia/Kathmandu", LC_ALL="C")
    third = rendered(
        path, tmp_path, PYTHONHASHSEED="0", TZ="America/Caracas", LC_ALL="tr_TR.UTF-8", LANG="de_DE"
    )
    assert len(first) > 10_000
    assert first == second == third
