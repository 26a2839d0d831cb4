"""`mailer dkim keygen`: a key for its owner alone, and a record that fits it."""

from __future__ import annotations

import base64
import re
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mailer.cli import run
from mailer.errors import ExitCode
from mailer.smtp.dkim import load_key


def test_record_publishes_the_key_that_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "key.pem"
    assert run(["dkim", "keygen", "bücher.example", "--selector", "s1", "--out", str(path)]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert out.startswith("s1._domainkey.xn--bcher-kva.example. IN TXT ")
    strings = re.findall(r'"([^"]*)"', out)
    assert max(len(one) for one in strings) <= 255
    published = base64.b64decode("".join(strings).split("p=")[1])
    public = load_key(path).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    assert published == public.public_bytes(*form)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 'selector = "s1"' in err


def test_existing_key_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key.pem"
    path.write_text("precious", encoding="utf-8")
    assert run(["dkim", "keygen", "example.org", "--out", str(path)]) == ExitCode.REFUSED
    assert path.read_text(encoding="utf-8") == "precious"
    assert "would lose it" in capsys.readouterr().err
