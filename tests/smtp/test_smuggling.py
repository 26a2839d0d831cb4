"""Content that tries to end its message early, or to look like commands, against servers of each kind."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.address import Envelope
from mailer.smtp.session import Fate, Outgoing, wire_safe
from tests.smtp.scripted import Script, run_async
from tests.smtp.test_session import send

EVIL = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
ENDINGS = [
    b"\r\n.\r\n",
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\n\n.\r\n",
    b"\r\r\n.\r\r\n",
]


def message(key: int, content: bytes) -> Outgoing:
    return Outgoing(key, Envelope("a@example.org", "b@example.com"), [content])


def lenient_end(body: bytes) -> re.Match[bytes] | None:
    """Return where a server that takes any line end around the dot would see the end of the data."""
    return re.search(rb"(?:\r\n|\r|\n)\.(?:\r\n|\r|\n)", b"\r\n" + body)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_line_end_ends_a_message_early(ending: bytes) -> None:
    script = Script()
    content = b"Subject: x\r\n\r\nhello" + ending + EVIL + b"Subject: evil\r\n\r\nevil\r\n"
    _, outcomes = run_async(send(script, message(1, content), message(2, b"second\r\n")))
    assert [outcome.fate for outcome in outcomes] == [Fate.ACCEPTED, Fate.ACCEPTED]
    assert len(script.accepted) == 2
    assert script.recipients() == ["b@example.com", "b@example.com"]
    assert lenient_end(script.accepted[0]) is None


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\r\n", b"\r\n.\r\n"]), max_size=30).map(b"".join)
)
@settings(max_examples=300)
def test_no_content_holds_an_end_of_data(content: bytes) -> None:
    safe = wire_safe(content)
    assert lenient_end(safe) is None
    assert safe.endswith(b"\r\n")
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", safe) is None
