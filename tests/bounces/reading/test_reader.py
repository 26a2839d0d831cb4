"""Messages are read in child processes, within a time limit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.bombs import BOMBS
from mailer.bounces.reading.reader import UNREADABLE, ReportReader, read_report
from mailer.bounces.reading.report import parse_report
from tests.bounces.reports import dsn


@pytest.fixture
def reader() -> Iterator[ReportReader]:
    made = ReportReader()
    yield made
    made.close()


@pytest.mark.parametrize("raw", [dsn("x"), b"", b"Subject: hello\n\nWords: \xff\n", BOMBS["at signs"]()])
def test_child_reads_what_the_parser_reads(reader: ReportReader, raw: bytes) -> None:
    assert reader.read(raw) == parse_report(raw) == read_report(raw)


def test_message_that_takes_too_long_is_unreadable_and_the_next_one_is_read() -> None:
    impatient = ReportReader(0.1)
    impatient.start()
    impatient._idle[0].send_signal(signal.SIGSTOP)
    assert impatient.read(dsn("x")) == UNREADABLE
    impatient._limit_seconds = 60.0
    assert impatient.read(dsn("x")) == parse_report(dsn("x"))
    impatient.close()


def test_child_that_died_between_messages_is_replaced(reader: ReportReader) -> None:
    reader.read(b"x")
    (child,) = reader._idle
    child.kill()
    child.wait()
    assert reader.read(dsn("x")) == parse_report(dsn("x"))


def test_one_child_serves_messages_in_turn_and_few_serve_many(reader: ReportReader) -> None:
    for _ in range(3):
        reader.read(b"x")
    assert len(reader._idle) == 1
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(reader.read, [dsn("x")] * 40)) == [parse_report(dsn("x"))] * 40
    assert 1 <= len(reader._idle) <= 4
