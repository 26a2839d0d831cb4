"""Pages in the reader's language: which one is chosen, and that nothing is left in another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from mailer.catalogue import FOLDER, Catalogue
from mailer.catalogue.collecting import TEMPLATE, collected, readers_pages
from mailer.config import Newsletter, Tracking
from mailer.errors import ConfigError
from tests.web.conftest import OpenSite, Site, edition

SHIPPED = Catalogue()
GERMAN = {"accept-language": "de-AT,de;q=0.9,en;q=0.5"}


def _read(file: Path) -> Catalog:
    with file.open("rb") as opened:
        return read_po(opened)


def _forms(text: str | Iterable[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ("",))


def _ids(catalog: Catalog) -> set[tuple[str, ...]]:
    return {_forms(message.id) for message in catalog if message.id}


@pytest.mark.parametrize("file", [TEMPLATE, *FOLDER.glob("*.po")], ids=lambda file: file.name)
def test_catalogue_holds_every_text_of_the_pages_and_no_other(file: Path) -> None:
    assert _ids(_read(file)) == _ids(collected()), "run: make catalogue"


@pytest.mark.parametrize("file", [*FOLDER.glob("*.po")], ids=lambda file: file.name)
def test_every_text_is_translated_with_its_placeholders_and_tags(file: Path) -> None:
    def parts(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s|</?\w[^>]*>", text))

    for message in _read(file):
        if message.id:
            assert "fuzzy" not in message.flags, message.id
            for said in _forms(message.string):
                assert said, message.id
                assert parts(said) == parts(_forms(message.id)[-1]), message.id


def _bare_texts(source: str) -> list[str]:
    """Return the words of a template that are neither code nor markup."""
    text = re.sub(r"\{% trans .*?\{% endtrans %\}", "", source)
    kept = (value if kind == "data" else "\x00" for _, kind, value in Environment(autoescape=True).lex(text))
    plain = re.sub(r'<[^>]*>|\w+="[^"]*"', " ", "".join(kept))
    return [word for word in plain.split() if re.search(r"[^\W\d_]{2,}", word)]


@pytest.mark.parametrize("page", readers_pages(), ids=lambda page: page.name)
def test_no_page_says_a_word_past_the_catalogue(page: Path) -> None:
    assert _bare_texts(page.read_text(encoding="utf-8")) == []


def test_bare_word_in_a_page_is_noticed() -> None:
    assert _bare_texts('<p class="quiet">Hello {{ _("you") }}</p>') == ["Hello"]


def test_sources_speak_to_readers_through_the_catalogue_alone() -> None:
    for file in (FOLDER.parent / "web").rglob("*.py"):
        if file.name not in ("outbox.py", "preview.py", "screenshots.py", "theme.py"):
            assert not re.search(r"\.notice\(\s*\d+,\s*f?\"", file.read_text(encoding="utf-8")), file.name


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH", "de"),
        ("DE-ch-1996", "de"),
        ("sv, de;q=0.8, en;q=0.9", "en"),
        ("sv, de;q=0.9, en;q=0.8", "de"),
        ("en;q=0, de;q=0.1", "de"),
        ("de;q=0, *", "en"),
        ("*, de;q=0.5", "en"),
        ("sv-FI, tlh", "en"),
        ("de;q=2, en", "en"),
        ("de;q=nan", "en"),
        ("../../de", "en"),
        (",;,=,de", "de"),
        ("sv," * 50 + "de", "en"),
    ],
)
def test_language_is_the_one_that_the_reader_likes_most(accepted: str, language: str) -> None:
    assert SHIPPED.best(accepted, otherwise="en").language == language


@pytest.mark.parametrize(("newsletter", "language"), [("de-AT", "de"), ("en-GB", "en"), ("tlh", "en")])
def test_who_asks_for_nothing_gets_the_language_of_the_newsletter(newsletter: str, language: str) -> None:
    assert SHIPPED.best("ko", otherwise=newsletter).language == language


@given(st.text(max_size=200))
def test_no_header_breaks_the_choice(accepted: str) -> None:
    assert SHIPPED.best(accepted, otherwise="en").language in SHIPPED.languages


def test_page_says_its_language_and_that_it_depends_on_the_reader(site: Site) -> None:
    path = f"/p/{site.link(site.subscribe())}"
    for headers, language, title in (
        (GERMAN, "de", "Ihre Einstellungen"),
        ({"accept-language": "en-GB"}, "en", "Your preferences"),
        ({}, "en", "Your preferences"),
    ):
        answer = site.client.get(path, headers=headers)
        assert f'<html lang="{language}">' in answer.text
        assert f"<title>{title} · The Weekly</title>" in answer.text
        assert answer.headers["content-language"] == language
        assert answer.headers["vary"] == "accept-language"
        # The newsletter's own name stays in its own language.
        assert '<a href="/archive/" lang="en">The Weekly</a>' in answer.text


def test_dates_and_plurals_are_those_of_the_language(site: Site) -> None:
    path = f"/p/{site.link(site.subscribe())}"
    german = site.client.get(path, headers=GERMAN).text
    assert "<td>1. März 2026</td>" in german
    assert ">2 Wochen</option>" in german
    english = site.client.get(path).text
    assert "<td>March 1, 2026</td>" in english
    assert ">2 weeks</option>" in english


@pytest.mark.parametrize(
    ("accepted", "day"),
    [
        ("en-GB", "1 March 2026"),
        ("en-Latn-GB", "1 March 2026"),
        ("en-XX", "March 1, 2026"),
        ("de-AT", "1. März 2026"),
    ],
)
def test_dates_are_those_of_the_region(site: Site, accepted: str, day: str) -> None:
    path = f"/p/{site.link(site.subscribe())}"
    assert f"<td>{day}</td>" in site.client.get(path, headers={"accept-language": accepted}).text


def test_numbers_are_written_as_the_language_writes_them() -> None:
    text = "The name is longer than %(most)s characters."
    assert "1.234 Zeichen" in SHIPPED.of("de").say(text, most=1234)
    assert "1,234 characters" in SHIPPED.of("en").say(text, most=1234)


def test_answers_failures_and_reasons_are_german_too(open_site: OpenSite) -> None:
    with open_site(tracking=Tracking(clicks=True), tags={"vip": "100 % <b>"}) as site:
        site.client.headers.update(GERMAN)
        link = site.link(site.subscribe())
        site.issue(edition())
        for path, said in (
            (f"/u/{link}", "Zu viele E-Mails"),
            (f"/p/{link}", "Sie erlauben uns nicht"),
            (f"/p/{link}", "100 % &lt;b&gt;"),
            (f"/p/{link}/erase", "j•••@example.org gespeichert"),
            ("/subscribe", 'Lesen Sie <span lang="en">The Weekly</span> per E-Mail'),
            ("/archive/", "Alle Ausgaben"),
            ("/archive/007-spring", "Abonnieren"),
            ("/nowhere", "Seite nicht gefunden"),
            ("/u/forged", "Dieser Link funktioniert nicht"),
        ):
            assert said in site.client.get(path).text, path
        assert "Es wurde nichts geändert" in site.client.post(f"/u/{link}").text
        assert "keine gültige E-Mail-Adresse" in site.client.post("/subscribe", data={"email": "x"}).text
        assert "Sie sind abgemeldet" in site.client.post(f"/u/{link}", data={"confirm": "yes"}).text


def test_values_in_translations_are_escaped(open_site: OpenSite) -> None:
    with open_site(newsletter=Newsletter(name="<i>%(x)s</i>", language="de")) as site:
        page = site.client.get("/subscribe").text
        assert '<span lang="de">&lt;i&gt;%(x)s&lt;/i&gt;</span>' in page


PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


def test_own_folder_adds_a_language_and_says_things_differently(open_site: OpenSite, tmp_path: Path) -> None:
    texts = tmp_path / "own" / "texts"
    texts.mkdir(parents=True)
    (texts / "fa.po").write_text(PO + 'msgid "Subscribe"\nmsgstr "اشتراک"\n', encoding="utf-8")
    (texts / "de.po").write_text(
        PO + 'msgid "Subscribe"\nmsgstr "Bestellen"\n\nmsgid "Invitations"\nmsgstr "Einladungen"\n',
        encoding="utf-8",
    )
    with open_site(own=texts.parent, tags={"events": "Invitations"}) as site:
        persian = site.client.get("/subscribe", headers={"accept-language": "fa"}).text
        assert '<html lang="fa" dir="rtl">' in persian
        assert "<h1>اشتراک</h1>" in persian
        assert "Email address" in persian
        german = site.client.get("/subscribe", headers=GERMAN).text
        assert "<h1>Bestellen</h1>" in german
        assert "E-Mail-Adresse" in german
        page = site.client.get(f"/p/{site.link(site.subscribe())}", headers=GERMAN).text
        assert "> Einladungen</label>" in page


FAULTS = [
    ("klingonisch.po", PO),
    ("de.po", "rubbish\n"),
    ("fr.po", PO + 'msgid "No. %(number)s"\nmsgstr "No %(nombre)s"\n'),
    ("fr.po", PO + 'msgid "No. %(number)s"\nmsgstr "No %(number)"\n'),
]


@pytest.mark.parametrize(("name", "content"), FAULTS)
def test_file_that_is_no_catalogue_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(name)):
        Catalogue(tmp_path)
