"""A mail by day and by night: only what asks for the scheme changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.rendering.html.variants import Scheme, in_scheme, with_links_beside

HEAD = "<style>:root { color-scheme: %s !important; }</style></head>"


@pytest.mark.parametrize(
    ("written", "light", "dark"),
    [
        ("(prefers-color-scheme: dark)", "(max-width: 0px)", "(min-width: 0px)"),
        ("( PREFERS-color-scheme :light )", "(min-width: 0px)", "(max-width: 0px)"),
        ("(prefers-color-scheme: none)", "(prefers-color-scheme: none)", "(prefers-color-scheme: none)"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "<head><style type='text/css'>a { } @media screen and %s { a { color: red } }</style></head>",
        "<head><style media='%s'>a { }</style></head>",
        "<head></head><picture><source media='%s' srcset='night.png'></picture>",
    ],
)
def test_question_is_answered_wherever_it_is_asked(written: str, light: str, dark: str, place: str) -> None:
    for scheme, answer in ((Scheme.LIGHT, light), (Scheme.DARK, dark)):
        assert in_scheme(place % written, scheme) == (place % answer).replace("</head>", HEAD % scheme, 1)


def test_words_of_the_issue_that_look_the_same_stay() -> None:
    body = '<body><code>@media (prefers-color-scheme: dark) media="x"</code></body>'
    assert in_scheme(f"<head></head>{body}", Scheme.DARK).endswith(body)


def test_links_open_beside() -> None:
    assert with_links_beside("<HEAD></HEAD>") == '<HEAD><base target="_blank"></HEAD>'
    assert with_links_beside("<p>no head") == '<p>no head<base target="_blank">'


@given(st.text(), st.sampled_from(Scheme))
def test_document_without_the_question_only_gains_its_scheme(text: str, scheme: Scheme) -> None:
    html = f"<head></head>{text.replace('(', '')}"
    assert in_scheme(html, scheme) == html.replace("</head>", HEAD % scheme, 1)
