"""Bold and italics work next to Chinese, Japanese and Korean text; elsewhere CommonMark's rules hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mailer.rendering.source.emphasis import wide_emphasis_plugin

PLAIN = MarkdownIt("commonmark").enable("strikethrough")
WIDE = MarkdownIt("commonmark").enable("strikethrough").use(wide_emphasis_plugin)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("都能获赠**“定制化服务”**。", "都能获赠<strong>“定制化服务”</strong>。"),
        ("**（2）反复。**开头的几点", "<strong>（2）反复。</strong>开头的几点"),
        ("请看**《谱蓝》**系统", "请看<strong>《谱蓝》</strong>系统"),
        ("これは**「強調」**です", "これは<strong>「強調」</strong>です"),
        ("**안녕(hi)**은 인사", "<strong>안녕(hi)</strong>은 인사"),
        ("看*“这里”*吧", "看<em>“这里”</em>吧"),
        ("旧的~~（价格）~~新的", "旧的<s>（价格）</s>新的"),
        ("一**二**三**四**五", "一<strong>二</strong>三<strong>四</strong>五"),
        ("[链接**《书》**名](https://a.example)", "链接<strong>《书》</strong>名"),
        ("中 ** 文 ** 字", "中 ** 文 ** 字"),
        ("一*二", "一*二"),
    ],
)
def test_emphasis_next_to_wide_characters(written: str, expected: str) -> None:
    assert expected in WIDE.render(written)


@given(st.text(alphabet="*_~ab .,(“”)[]!\n", max_size=40))
def test_text_without_wide_characters_follows_commonmark(text: str) -> None:
    assert PLAIN.render(text) == WIDE.render(text)


@given(st.text(alphabet="*~一二。（）“”a ", max_size=40))
def test_no_character_is_lost(text: str) -> None:
    def bare(html: str) -> str:
        for tag in ("p", "em", "strong", "s", "hr", "ul", "li", "pre", "code"):
            html = html.replace(f"<{tag}>", "").replace(f"</{tag}>", "").replace(f"<{tag} />", "")
        return "".join(character for character in html if character not in "*~ \n")

    assert bare(PLAIN.render(text)) == bare(WIDE.render(text))
