"""Issues, images and templates that would stop or swell the process: refused, with little memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.newsletter import Folder, Ran

# The command itself takes some 130 MB.
MAX_MEMORY_BYTES = 300_000_000
_SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def _write(folder: Path, body: str) -> None:
    (folder / "issues" / "001-short.md").write_text(f"---\ntitle: A\n---\n\n{body}\n", encoding="utf-8")


def _image(folder: Path, name: str, content: bytes) -> None:
    (folder / "issues" / name).write_bytes(content)
    _write(folder, f"One.\n\n![A picture]({name})")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *more: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + _chunk(b"IEND", b"")


def no_footer(folder: Path) -> None:
    base = folder / "email_templates" / "base.mjml.j2"
    lines = base.read_text(encoding="utf-8").split("\n")
    base.write_text("\n".join(line for line in lines if "block footer" not in line), encoding="utf-8")


def circular_includes(folder: Path) -> None:
    partials = folder / "email_templates" / "partials"
    (partials / "footer.mjml.j2").write_text('{% include "partials/header.mjml.j2" %}')
    (partials / "header.mjml.j2").write_text('{% include "partials/footer.mjml.j2" %}')


def fifty_megabytes(folder: Path) -> None:
    _image(folder, "large.png", b"")
    os.truncate(folder / "issues" / "large.png", 50_000_000)


def pixel_bomb(folder: Path) -> None:
    _image(folder, "bomb.png", _png(60_000, 60_000))


def text_bomb(folder: Path) -> None:
    swelling = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    _image(folder, "bomb.png", _png(4, 4, swelling))


def svg_with_script(folder: Path) -> None:
    _image(folder, "drawing.svg", _SVG.encode())


def svg_under_another_name(folder: Path) -> None:
    _image(folder, "drawing.png", _SVG.encode())


def quotes_in_quotes(folder: Path) -> None:
    _write(folder, "> " * 10_000 + "deep")


def lists_in_lists(folder: Path) -> None:
    _write(folder, "- " * 10_000 + "deep")


def emphasis_in_emphasis(folder: Path) -> None:
    _write(folder, "*" * 10_000 + "deep" + "*" * 10_000)


def five_megabytes(folder: Path) -> None:
    _write(folder, "All work and no play. " * 230_000)


HOSTILE: dict[Callable[[Path], None], tuple[int, str]] = {
    no_footer: (3, "unsubscribe-link"),
    circular_includes: (1, "the template includes itself"),
    fifty_megabytes: (1, "001-short.md:7: 'large.png' is larger than 20 MB"),
    pixel_bomb: (1, "001-short.md:7: 'bomb.png' has more than 50 million pixels"),
    text_bomb: (1, "001-short.md:7: 'bomb.png' cannot be read"),
    svg_with_script: (1, "001-short.md:7: 'drawing.svg' has no size"),
    svg_under_another_name: (1, "001-short.md:7: 'drawing.png' cannot be read"),
    quotes_in_quotes: (1, "001-short.md:5: nested deeper"),
    lists_in_lists: (1, "001-short.md:5: nested deeper"),
    emphasis_in_emphasis: (1, "001-short.md:5: nested deeper"),
    five_megabytes: (1, "001-short.md: larger than 1,000,000 bytes"),
}


# A process counts what it had before it became another program as its own: it is started by a small one.
_MEASURE = """\
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measured(folder: Folder, *arguments: str) -> tuple[Ran, int]:
    """Run a command to its end; return what it said and the memory it had at most, in octets."""
    peak = folder.path / "peak"
    done = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURE, str(peak), *folder.command(*arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr), int(peak.read_text()) * 1024


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_what_would_stop_or_swell_the_process_is_refused(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "news")
    spoil(folder.path)
    code, words = HOSTILE[spoil]
    ran, memory = measured(folder, "lint", "1")
    assert ran.code == code, ran.err
    assert words in ran.out + ran.err
    assert "Traceback" not in ran.err
    assert memory < MAX_MEMORY_BYTES


def test_mail_without_a_way_out_is_not_queued(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(1)
    no_footer(folder.path)
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 3
    assert "unsubscribe-link" in ran.err
    assert folder.mailer("status", "--json").json["issues"] == []
    assert folder.kept() == []
