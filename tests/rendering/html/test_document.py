"""The document after inlining: what was put on the elements, and what was left as it was."""

from __future__ import annotations

import re

import pytest

from mailer.errors import SourceError
from mailer.rendering.html.document import BODY, document
from mailer.rendering.html.mjml import to_html

MJML = (
    "<mjml><mj-head><mj-title>T</mj-title></mj-head><mj-body><mj-section><mj-column>"
    f'<mj-text css-class="body">{BODY}</mj-text></mj-column></mj-section></mj-body></mjml>'
)
HEAD = (
    "@media (prefers-color-scheme: dark) {\n  .a>b{color:red!important}\n}\n"
    "[data-ogsc] .a { color: #fff !important; }\n@font-face { font-family: X; src: local('X') }\n"
    "@supports (display: grid) { .a { margin: 0 auto !important } }"
)


def test_styles_of_the_head_are_left_byte_for_byte() -> None:
    html = document(MJML, "<p>x</p>", ".body p { margin: 0 }", HEAD, "", "t")
    assert HEAD in html
    for style in re.findall(r"<style[^>]*>(.*?)</style>", to_html(MJML, "t"), re.DOTALL):
        assert style in html


def test_comments_for_outlook_are_all_there() -> None:
    before = to_html(MJML, "t")
    after = document(MJML, "<p>x</p>", "p { margin: 0 }", HEAD, "", "t")
    assert after.count("<!--[if") == before.count("<!--[if") > 0
    assert after.count("<![endif]-->") == before.count("<![endif]-->")


def test_rules_land_on_the_elements_and_sizes_stay() -> None:
    body = '<p>x</p><table width="100%" bgcolor="#eeeeee"><tr><td>y</td></tr></table>'
    html = document(MJML, body, ".body p { color: red } .body table { width: 50% }", "", "", "t")
    assert '<p style="color:red">x</p>' in html
    assert re.search(r'<table width="100%" bgcolor="#eeeeee"[^>]*style="width:50%"', html)
    assert "data-premailer" not in html


def test_preheader_is_hidden_escaped_and_padded() -> None:
    html = document(MJML, "x", "", "", 'A <b> & "c"', "t")
    found = re.search(r'<div class="preheader" style="display:none;[^"]*mso-hide:all">(.*?)</div>', html)
    assert found is not None
    assert found[1].startswith("A &lt;b&gt; &amp; ")
    assert len(found[1]) > 150


def test_frame_without_or_with_two_bodies_is_refused() -> None:
    for mjml in (MJML.replace(BODY, "x"), MJML.replace(BODY, BODY + BODY)):
        with pytest.raises(SourceError, match=r"^t: the body appears [02] times"):
            document(mjml, "x", "", "", "", "t")


@pytest.mark.parametrize("css", ['@import "/etc/passwd";', "/* @ */\n@media print { p { color: red } }"])
def test_at_rule_is_refused_before_any_file_is_read(css: str) -> None:
    with pytest.raises(SourceError, match=r"inline\.css\.j2:\d after filling: an @ rule"):
        document(MJML, "x", css, "", "", "t")


def test_pseudo_class_is_refused() -> None:
    with pytest.raises(SourceError, match="pseudo-class"):
        document(MJML, "<p>x</p>", "a:hover { color: red }", "", "", "t")
