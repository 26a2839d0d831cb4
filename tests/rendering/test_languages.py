"""Letters and footers in every language that the pages have."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from mailer.catalogue import Catalogue
from mailer.config import Brand
from mailer.rendering.build import Letter, build_letter
from tests.conftest import PROJECT
from tests.rendering.scene import NEWSLETTER, edition

LANGUAGES = Catalogue().languages
TEMPLATES = PROJECT / "email_templates"


def test_there_are_at_least_ten_besides_english_with_both_directions() -> None:
    assert len(LANGUAGES) > 10
    assert {Catalogue().of(language).direction for language in LANGUAGES} == {"ltr", "rtl"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", get_args(Letter))
def test_every_letter_is_in_every_language_with_its_link(kind: Letter, language: str) -> None:
    made = build_letter(kind, NEWSLETTER, Brand(), TEMPLATES, language=language)
    assert f'lang="{language}"' in made.html
    link = "urls.confirm" if kind == "confirmation" else "urls.preferences"
    assert re.search(rf"\{{\{{ {link} \}}\}}", made.text)
    assert "{{ newsletter" not in made.text + made.subject
    english = build_letter(kind, NEWSLETTER, Brand(), TEMPLATES, language="en")
    assert (made.title == english.title) is (language == "en")


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_footer_of_an_issue_is_in_its_language(language: str) -> None:
    made = edition("Hello.", language=language)
    unsubscribe = Catalogue().of(language).say("Unsubscribe")
    assert f">{unsubscribe}</a>" in made.html
    assert f"{unsubscribe}: {{{{ urls.unsubscribe }}}}" in made.text
    direction = Catalogue().of(language).direction
    assert f'dir="{direction}"' in made.html.split("<body")[0]
