"""The project's own templates give nothing to find, whatever an issue makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.config import Brand
from mailer.rendering.build import build_edition
from mailer.rendering.lint import LintReport, lint
from mailer.rendering.message import Composer, Recipient
from mailer.rendering.source import Issue, parse_issue, read_issue
from mailer.tokens import Signer
from tests.rendering.lint.scene import NEWSLETTER, PROJECT, PUBLIC_URL

EVERYTHING = """\
---
title: Everything at once
subtitle: A mail with all that an issue can hold
preheader: Tables, notes, code and buttons
number: 3
date: 2026-02-01
---

A bean wants almost nothing, and gets it from a jar on a windowsill.
Dear {{ subscriber.name | default("reader") }}, some *emphasis*, **weight**, ~~regret~~ and `code`.[^1]

## A heading

### Below it

> A quotation
> of two lines

- one
- two
    1. within

::: tip Try it
Water the bean.
:::

::: warning
Not too much.
:::

```python
def water(bean: str) -> str:  # every morning
    return f"{bean} with {1} spoon"
```

| What | Price |
|---|---|
| Beans | 1.20 |

---

![A bean](https://example.com/bean.png "Day nine"){width=536}

{% if subscriber.city %}Greetings to {{ subscriber.city }}.{% endif %}

[Write to me](https://example.com/write){.button} [Or do not](https://example.com/not){.button .quiet}

[^1]: A footnote with [a source](https://example.com/source).
"""
SHORT = EVERYTHING.replace(EVERYTHING[EVERYTHING.index("```py") : EVERYTHING.index("| What")], "")


def report(issue: Issue, brand: Brand, *, tracked: bool = False) -> LintReport:
    edition = build_edition(
        issue,
        NEWSLETTER,
        brand,
        PROJECT / "email_templates",
        public_url=PUBLIC_URL,
        track_clicks=tracked,
        track_opens=tracked,
    )
    composer = Composer(
        edition,
        issue_id=1,
        newsletter=NEWSLETTER,
        public_url=PUBLIC_URL,
        bounce_domain="bounce.example.org",
        unsubscribe_address="leave@example.org",
        signer=Signer([b"a key for this test only"]),
    )
    reader = Recipient(1, "reader@example.com", "Reader", {"city": "Cluj"})
    message = composer.compose(reader, datetime(2026, 2, 1, tzinfo=UTC)).content
    return lint(issue, edition, message, NEWSLETTER, public_url=PUBLIC_URL, leaving=False)


def test_every_construct_is_without_a_finding() -> None:
    assert report(parse_issue(EVERYTHING, Path("003.md")), Brand()).findings == ()


def test_tracked_issue_is_without_a_finding() -> None:
    made = report(parse_issue(EVERYTHING, Path("003.md")), Brand(), tracked=True)
    assert made.findings == ()
    assert "https://example.com/write" in made.addresses


@pytest.mark.parametrize("text", ["www.example.net", "https://example.com/write"])
def test_tracked_link_is_judged_by_where_it_leads(text: str) -> None:
    source = EVERYTHING.replace("[a source]", f"[{text}]")
    found = {
        finding.check
        for finding in report(parse_issue(source, Path("003.md")), Brand(), tracked=True).findings
    }
    assert found == ({"deceptive-link"} if "net" in text else set())


@settings(max_examples=15, deadline=None)
@given(colour=st.from_regex(r"\A#[0-9a-f]{6}\Z"))
def test_any_accent_is_readable(colour: str) -> None:
    made = report(parse_issue(SHORT, Path("003.md")), Brand(accent=colour))
    assert [finding.message for finding in made.findings] == []


def test_sample_issue_is_without_a_finding() -> None:
    assert report(read_issue(PROJECT / "issues" / "001-a-bean-in-a-jar.md"), Brand()).findings == ()


def test_seed_lacks_only_a_preheader(seed: Path) -> None:
    made = report(read_issue(seed), Brand())
    assert [finding.check for finding in made.findings] == ["preheader"]
    assert (made.words, made.reading_time) == (1073, "4 minutes")
