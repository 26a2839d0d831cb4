"""What cssutils made of styles is kept, and what is kept changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from lxml.cssselect import CSSSelector

from mailer.errors import SourceError
from mailer.rendering import inlining
from mailer.rendering.inlining import Kept, inlined
from mailer.rendering.kept import cache_folder

CSS = "p.a{color:#112233;margin:0 0 4px !important}\ntd > a{color:red}"
PAGE = (
    "<!DOCTYPE html><html><head></head><body><p class='a' style='font-size:12px;color:blue'>x</p>"
    "<table><tr><td><a href='#'>y</a></td></tr></table></body></html>"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "mailer"
    forget()


def forget() -> None:
    """Begin anew, as another process does."""
    inlining._kept.cache_clear()


def test_kept_styles_make_the_same_document(folder: Path) -> None:
    first = inlined(PAGE, CSS)
    assert '<p class="a" style="color:blue; margin:0 0 4px !important; font-size:12px">' in first
    kept = json.loads((folder / "styles.json").read_text(encoding="utf-8"))
    assert [len(kept[name]) for name in ("sheets", "styles")] == [1, 4]
    forget()
    assert inlined(PAGE, CSS) == first


def test_a_second_process_does_not_load_what_reads_styles(folder: Path) -> None:
    inlined(PAGE, CSS)
    program = (
        "import sys; from mailer.rendering.inlining import inlined\n"
        f"inlined({PAGE!r}, {CSS!r}); print('cssutils' in sys.modules, 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"made_by": ["0", "0"], "sheets": {}, "styles": {}}',
        b"\xff\xfe",
        b'{"made_by": 1}',
    ],
)
def test_kept_file_that_is_damaged_or_of_another_version_is_made_anew(folder: Path, content: bytes) -> None:
    first = inlined(PAGE, CSS)
    good = (folder / "styles.json").read_bytes()
    (folder / "styles.json").write_bytes(content)
    forget()
    assert inlined(PAGE, CSS) == first
    assert (folder / "styles.json").read_bytes() == good


def test_kept_file_of_the_right_version_with_wrong_values_is_made_anew(folder: Path) -> None:
    first = inlined(PAGE, CSS)
    kept = json.loads((folder / "styles.json").read_text(encoding="utf-8"))
    kept["sheets"] = {name: [["x"]] for name in kept["sheets"]}
    (folder / "styles.json").write_text(json.dumps(kept), encoding="utf-8")
    forget()
    assert inlined(PAGE, CSS) == first


def test_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    first = inlined(PAGE, CSS)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    forget()
    assert inlined(PAGE, CSS) == first


def test_relative_cache_home_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_folder() == tmp_path / ".cache" / "mailer"


def test_what_is_kept_has_a_bound(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "styles.json")
    for number in range(5_000):
        kept.add_style(f"color:{number}", [("color", str(number))])
        kept.add_sheet(f"p{{color:{number}}}", [])
    assert len(kept.styles) <= 2_000
    assert len(kept.sheets) <= 16
    kept.save()
    again = Kept(tmp_path / "styles.json")
    assert (again.styles, again.sheets) == (kept.styles, kept.sheets)


def test_pseudo_class_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="pseudo-class"):
        inlined(PAGE, "a:hover{color:red}")


_PART = st.builds(
    lambda tag, classes: tag + "".join(f".{name}" for name in classes) or "p",
    st.sampled_from(["", "p", "div", "a", "h2", "td"]),
    st.lists(st.sampled_from(["a", "b", "c-d", "_e"]), max_size=2, unique=True),
)
_NODES = st.recursive(
    st.just("x"),
    lambda inner: st.builds(
        lambda tag, classes, content: f"<{tag} class='{' '.join(classes)}'>{''.join(content)}</{tag}>",
        st.sampled_from(["p", "div", "a", "h2", "DIV"]),
        st.lists(st.sampled_from(["a", "b", "c-d", "_e", "A", "\ta"]), max_size=3),
        st.lists(inner, max_size=4),
    ),
    max_leaves=25,
)


@given(html=_NODES, parts=st.lists(_PART, min_size=1, max_size=4), joint=st.sampled_from([" ", "  ", " > "]))
@settings(deadline=None)
def test_elements_are_those_of_the_selector_in_their_order(html: str, parts: list[str], joint: str) -> None:
    page = etree.fromstring(f"<html><body><!-- <p class='a'> -->{html}</body></html>", etree.HTMLParser())
    selector = joint.join(parts)
    assert inlining._selector(selector)(page) == CSSSelector(selector)(page)
