"""Common mistakes in an issue file have a finding each; good issues have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mailer.cli import run
from mailer.errors import ExitCode
from tests.end_to_end.newsletter import Folder

PROSE = "A bean wants almost nothing: a jar, some paper, a little water, and somebody who looks. " * 7
FRONT = '---\ntitle: "A bean"\npreheader: "Five questions"\n---\n'
# The first line of a body is the fifth of the file.
BODY = 5
SIGNS = (
    "Traceback",
    "[Errno",
    "this is a bug",
    "error: unexpected",
    "regex",
    "<class",
    "None",
    "xslot",
    "lxml",
    "(?",
)


def front(*lines: str) -> str:
    """Return an issue whose front matter has these lines from the second line of the file on."""
    return "---\n" + "\n".join(lines) + f"\n---\n{PROSE}\n"


def body(*lines: str) -> str:
    """Return an issue whose body begins with these lines."""
    return FRONT + "\n".join(lines) + f"\n\n{PROSE}\n"


# What is written, the line of the finding, and a part of what is said.
MISTAKES: dict[str, tuple[str | bytes, int | None, str]] = {
    "no front matter": ("# Hello\n", 1, "front matter is missing"),
    "front matter not closed": ('---\ntitle: "A"\n\nHello\n', 1, "does not end"),
    "no title": (front("preheader: b"), 1, "'title' is missing"),
    "empty title": (front("preheader: b", 'title: ""'), 3, "'title' is empty"),
    "colon in a title": (front("title: Beans: a story", "preheader: b"), 2, "between quotes"),
    "title that is a number": (front("title: 2026", "preheader: b"), 2, "between quotes"),
    "mistyped key": (front('title: "A"', "prehaeder: b"), 3, "did you mean 'preheader'"),
    "key twice": (front('title: "A"', 'title: "B"'), 3, "appears twice"),
    "no such date": (front('title: "A"', "date: 2026-02-30"), 3, "2026-01-31"),
    "date in words": (front('title: "A"', "date: 3 March 2026"), 3, "2026-01-31"),
    "date with dots": (front('title: "A"', "date: 31.01.2026"), 3, "2026-01-31"),
    "number in words": (front('title: "A"', "number: seven"), 3, "whole number"),
    "tags as one word": (front('title: "A"', "tags: garden"), 3, "list of words"),
    "language by name": (front('title: "A"', "language: in German"), 3, "language tag"),
    "tab in the front matter": (front('title: "A"', "\tpreheader: b"), 3, "tab"),
    "quote not closed": (front('title: "A', "preheader: b"), 2, "quot"),
    "curly quotes in the front matter": (front("title: “A”", "preheader: b"), 2, "quotes"),
    "missing blank after a colon": (front("title:A", "preheader: b"), 2, "colon"),
    "front matter is a list": (front("- title", "- preheader"), 2, "title: …"),
    "waiver of a check that does not exist": (
        front('title: "A"', "preheader: b", 'lint: {ignore: {no-such: "why"}}'), 4, "no check 'no-such'"),
    "not UTF-8": ('---\ntitle: "A"\n---\nCafé\n'.encode("latin-1"), 4, "UTF-8"),
    "UTF-16": ('---\ntitle: "A"\n---\nCafé\n'.encode("utf-16"), 1, "UTF-8"),
    "merge conflict": (body("<<<<<<< HEAD", "one", "=======", "two", ">>>>>>> other"), BODY, "merge"),
    "condition not closed": (body("One.", "", "{% if subscriber.city %}", "Two."), BODY + 2, "endif"),
    "loop not closed": (body("One.", "", "{% for tag in subscriber.tags %}", "Two."), BODY + 2, "endfor"),
    "end without a beginning": (body("One.", "", "{% endif %}"), BODY + 2, "endif"),
    "unknown statement": (body("One {% fi %}"), BODY, "fi"),
    "unknown filter": (body("One.", "", "Dear {{ subscriber.name | captialize }},"), BODY + 2, "capitalize"),
    "unknown field": (body("Dear {{ subcriber.name }},"), BODY, "subscriber"),
    "braces not closed": (body("Dear {{ subscriber.name },"), BODY, "braces"),
    "comment sign in prose": (body("One {# two", "", "three"), BODY, "{#"),
    "comment that hides paragraphs": (body("One {# two", "", "three #} four"), BODY, "hides"),
    "another service's tag": (body("Dear *|FNAME|*,"), BODY, "*|FNAME|*"),
    "bold with a blank": (body("One.", "", "This is **bold **text."), BODY + 2, "**"),
    "link with a blank before its address": (body("Read [this] (https://example.org)."), BODY, "link"),
    "link not closed": (body("Read [this page](https://example.org/x now."), BODY, "link"),
    "link without an address": (body("One.", "", "Read [this page]()."), BODY + 2, "address"),
    "link without words": (body("[](https://example.org/)"), BODY, "words"),
    "mistyped scheme": (body("One.", "", "[A page](htp://example.org)"), BODY + 2, "https://"),
    "address without a scheme": (body("[A page](www.example.org/beans)"), BODY, "https://"),
    "address of another site as words": (
        body("One.", "", "[www.example.com](https://example.net/offer)"), BODY + 2, "example.net"),
    "footnote without its text": (body("A claim.[^1]"), BODY, "footnote"),
    "block not closed": (body("::: note", "Water it."), BODY, ":::"),
    "unknown block": (body("::: info", "Water it.", ":::"), BODY, ":::"),
    "unknown class": (body("[Send](https://example.org/){.buton}"), BODY, "button"),
    "button in a sentence": (
        body("Please [send it](https://example.org/){.button} today."),
        BODY,
        "paragraph of its own",
    ),
    "unknown attribute": (body("[Send](https://example.org/){colour=red}"), BODY, "no effect"),
    "tags shown as text": (body("Press <kbd>Ctrl</kbd> now."), BODY, "<kbd>"),
    "task list": (body("- [ ] water", "- [x] soil"), BODY, "task"),
    "mark": (body("This is ==important==."), BODY, "=="),
    "emoji name": (body("Well done :tada:"), BODY, "emoji"),
    "subscript": (body("Drink H~2~O."), BODY, "superscripts"),
    "missing image": (body("One.", "", "![A bean](gone.png)"), BODY + 2, "gone.png"),
    "image in a folder of this machine": (body("![A bean](/home/me/bean.png)"), BODY, "bean.png"),
    "file that is not an image": (body("![A bean](broken.png)"), BODY, "broken.png"),
    "drawing with text": (body("![A bean](bean.svg)"), BODY, "PNG"),
    "image without alternative text": (body("One.", "", "![](bean.png)"), BODY + 2, "alternative text"),
    "vague link": (body("[Click here](https://example.org/)"), BODY, "click here"),
    "heading that skips a level": (body("## One", "", "#### Two"), BODY + 2, "level"),
    "heading twice": (body("## Beans", "", "One.", "", "## Beans", "", "Two."), BODY + 4, "Beans"),
    "long subject": (front(f'title: "{"beans " * 20}"', "preheader: b"), 2, "subject"),
    "no preheader": ('---\ntitle: "A"\n---\n' + PROSE, None, "preheader"),
    "date of another year": (front('title: "A"', "preheader: b", "date: 2019-03-01"), 4, "2019"),
    "skeleton": (FRONT + 'Hello {{ subscriber.name | default("there") }},\n', BODY, "no text"),
    "curly quotes in an attribute": (body("![A bean](bean.png){width=“20”}"), BODY, "width"),
    "huge image": (body("One.", "", "![A bean](large.png)"), BODY + 2, "20 MB"),
    "braces in code": (body("Write `{{ subscriber.name }}` there."), BODY, "code"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    issues = made.path / "issues"
    Image.new("RGB", (30, 20), "#ff0000").save(issues / "bean.png")
    with (issues / "large.png").open("wb") as large:
        large.truncate(50_000_000)
    (issues / "broken.png").write_bytes(b"no image")
    (issues / "bean.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><text y="9">Bean</text></svg>',
        encoding="utf-8",
    )
    return made


def lint(folder: Folder, content: str | bytes) -> int:
    path = folder.path / "issues" / "002-x.md"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return run(["lint", "002-x", "-C", str(folder.path)])


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_has_a_finding_with_its_line_and_remedy(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, line, said = MISTAKES[name]
    lint(folder, content)
    shown = "".join(capsys.readouterr())
    place = f"002-x.md:{line}:" if line else "002-x.md"
    assert place in shown, shown
    assert said.lower() in shown.lower(), shown
    assert "\n  = " in shown or "\n  next: " in shown, shown
    assert [sign for sign in SIGNS if sign in shown] == []


def good(text: str, **keys: str) -> str:
    """Return a good issue with this body."""
    lines = {"title": '"A bean in a jar"', "preheader": '"Five questions and an answer"', **keys}
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + f"---\n{text}\n"


GOOD: dict[str, str | bytes] = {
    "plain": good("One sentence is enough."),
    "greeting": good('Hello {{ subscriber.name | default("there") }},\n\nthe beans are up.'),
    "condition": good("{% if subscriber.city %}Greetings to {{ subscriber.city }}.{% endif %}\n\nGood."),
    "loop": good("{% for tag in subscriber.tags %}{{ tag }} {% endfor %}The beans are up."),
    "emphasis": good("This is *soft*, **strong**, ~~gone~~ and `code`. 2 * 3 * 4 = 24."),
    "headings": good("## One\n\nText.\n\n### Below\n\nText.\n\n## Two\n\nText."),
    "lists": good("- one\n- two\n    1. within\n    2. again\n\nThen text."),
    "quotation": good("> A plant does not hurry,\n> and it does not wait."),
    "links": good("See [the society](https://example.org/beans), <https://example.org/> or ana@example.org."),
    "link with signs": good("[Search](https://example.org/?q=a&page=2#top) for (beans)."),
    "button": good("[Send it](https://example.org/x){.button} [Not](https://example.org/y){.button .quiet}"),
    "footnote": good("A claim.[^1]\n\n[^1]: With [a source](https://example.org/source)."),
    "blocks": good("::: tip Try it\nWater.\n:::\n\n::: warning\nNot too much.\n:::"),
    "interview": good("::: question\nWhy a bean?\n:::\n\n::: answer\nWhy not.\n:::"),
    "table": good("| What | Price |\n|---|---:|\n| Beans | 1.20 € |\n| A jar | 0.00 € |"),
    "wide table": good(f"|{' Column |' * 7}\n|{'---|' * 7}\n|{' several words |' * 7}"),
    "code": good('```python\nprint("a {brace} and **stars**")\n```'),
    "image": good(f'{PROSE}\n\n![A bean in a jar](bean.png "Day nine")'),
    "image of a width": good(f"{PROSE}\n\n![A bean in a jar](bean.png){{width=20}}"),
    "divider": good("One.\n\n---\n\nTwo."),
    "signs": good("A -> B, 3 < 4, C#, f(x) = y, [sic], 10:30:45, ~5 min, snake_case, #1, 100 %, a/b, etc."),
    "names of files": good("See README.md, index.html and Node.js in `src/main.py`."),
    "emoji": good("Well done 🎉 and good night 🌱👩‍🌾."),
    "waiver": good("[A page](http://example.org/)", lint='{ignore: {insecure-link: "no TLS there"}}'),
    "German": good("Die Donaudampfschifffahrtsgesellschaft grüßt „herzlich“ – für 2,40 €.", language="de"),
    "French": good("« Bonjour », dit-elle ; voilà : l’été arrive !", language="fr"),
    "Hebrew": good("שלום לכולם, זה [הגיליון](https://example.org/) הראשון.", language="he"),
    "Arabic": good("مرحبا بكم في العدد الأول.", language="ar"),
    "Japanese": good("こんにちは。これは**最初**の号です。", language="ja"),
    "Chinese": good("大家好。這是第一期，謝謝閱讀。", language="zh"),
    "Turkish": good("Merhaba, İstanbul'dan ilk sayı. Iğdır güzel.", language="tr"),
    "written on Windows": good("One.\n\nTwo.").replace("\n", "\r\n"),
    "with a byte order mark": b"\xef\xbb\xbf" + good("Café.").encode(),
    "all keys": good("Text.", subtitle='"Slow"', subject='"A bean 🌱"', author="Robin",
                     number="3", tags="[jars]"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_issue_has_no_finding(folder: Folder, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code = lint(folder, GOOD[name])
    shown = "".join(capsys.readouterr())
    assert code == ExitCode.DONE, shown
    assert "002-x: nothing found" in shown, shown


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(MISTAKES) >= 50
    assert len(GOOD) >= 30
