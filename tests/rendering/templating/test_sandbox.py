"""What a template may say per subscriber."""

from datetime import date
from typing import Any

import pytest
from jinja2 import UndefinedError
from jinja2.utils import missing

from mailer.errors import SourceError
from mailer.rendering.templating.sandbox import MAX_LOOP_ITEMS, URL_MARK, Sandbox


def filled(source: str, *, autoescape: bool = False, language: str = "en", **subscriber: Any) -> str:
    sandbox = Sandbox("001", language=language)
    root, _ = sandbox.compile(source, "text", url_names=("click",), autoescape=autoescape)
    values = {
        variable: subscriber.get(name, missing) if owner == "subscriber" else f"https://x/{name}"
        for (owner, name), variable in sandbox.fields.items()
    }
    return URL_MARK.sub(lambda found: f"https://x/{found[1]}", "".join(root(values)))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Hi Anna!", "Hi {{ subscriber.name }}!"),
        ("https://x/click/3", "{{ urls.click }}/3"),
        ("https%3A//x/click", "{{ urls.click | urlencode }}"),
        ("ANNA Anna Lind", "{{ subscriber.name | upper }} {{ subscriber['full name'] }}"),
        (
            "friend friend",
            "{{ subscriber.empty | default('friend') }} {{ subscriber.none | d('friend', true) }}",
        ),
        ("Anna", "{{ subscriber.none | default(subscriber.name) }}"),
        ("1 a, 2 b, ", "{% for tag in subscriber.tags %}{{ loop.index }} {{ tag }}, {% endfor %}"),
        ("b", "{% for tag in subscriber.tags if tag != 'a' %}{{ tag }}{% endfor %}"),
        ("no", "{% for x in subscriber.none %}{{ x }}{% else %}no{% endfor %}"),
        ("pro", "{% if subscriber.plan == 'pro' and 'a' in subscriber.tags %}pro{% endif %}"),
        ("free", "{% if subscriber.none == 'pro' %}pro{% else %}free{% endif %}"),
        ("b", "{% if not subscriber.none or 'x' in subscriber.none %}b{% endif %}"),
        ("a · b", "{{ subscriber.tags | join(' · ') }}"),
        ("Anna…", "{{ subscriber['full name'] | truncate(5, true, '…', 0) }}"),
        ("1,234,567", "{{ subscriber.count | number }}"),
        ("March 4, 2026", "{{ subscriber.since | date }}"),
        ("3/4/26", "{{ subscriber.day | date('short') }}"),
        ("Anna Lind", "{{ subscriber.name ~ ' Lind' }}"),
        ("{{ x }}", "{{ '{' }}{ x }}"),
    ],
)
def test_template_puts_out(text: str, source: str) -> None:
    subscriber: dict[str, Any] = {
        "name": "Anna", "full name": "Anna Lind", "empty": "", "tags": ("a", "b"), "plan": "pro",
        "count": 1234567, "since": "2026-03-04T10:00:00+00:00", "day": date(2026, 3, 4),
    }  # fmt: skip
    assert filled(source, **subscriber).replace("\u202f", " ") == text


def test_dates_and_numbers_follow_the_language() -> None:
    source = "{{ subscriber.day | date }} {{ subscriber.count | number }}"
    assert filled(source, language="de-AT", day="2026-03-04", count=2.5) == "4. März 2026 2,5"


def test_an_unknown_language_forms_dates_as_english() -> None:
    assert filled("{{ subscriber.day | date }}", language="zz", day="2026-03-04") == "March 4, 2026"


def test_html_is_escaped() -> None:
    assert filled("<p>{{ subscriber.name }}", autoescape=True, name="<b>&") == "<p>&lt;b&gt;&amp;"


def test_data_is_never_template() -> None:
    assert filled("{{ subscriber.name }}", name="{{7*7}}{% raw %}") == "{{7*7}}{% raw %}"


def test_a_missing_field_that_is_written_out_is_an_error_that_names_it() -> None:
    sandbox = Sandbox("001")
    root, _ = sandbox.compile("{{ subscriber.city }}", "text", url_names=(), autoescape=True)
    with pytest.raises(UndefinedError) as raised:
        "".join(root(dict.fromkeys(sandbox.fields.values(), missing)))
    assert sandbox.field_of(str(raised.value)) == "subscriber.city"


def test_a_loop_ends_after_a_hundred_items() -> None:
    assert filled("{% for x in subscriber.many %}x{% endfor %}", many=["y"] * 5000) == "x" * MAX_LOOP_ITEMS


def test_a_text_is_one_item_and_not_its_letters() -> None:
    assert filled("{% for x in subscriber.name %}[{{ x }}]{% endfor %}", name="Anna") == "[Anna]"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 2 ** 99999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a' | center(999999999) }}",
        "{{ subscriber.name | replace('', 'aaaa') }}",
        "{{ subscriber.__class__.__mro__ }}",
        "{{ subscriber.name.__class__ }}",
        "{{ subscriber.name.upper() }}",
        "{{ subscriber.name | attr('__class__') }}",
        "{{ subscriber.name | safe }}",
        "{{ subscriber.name[0] }}",
        "{{ subscriber[subscriber.name] }}",
        "{{ subscriber }}",
        "{{ urls }}",
        "{{ urls.secret }}",
        "{{ urls['secret'] }}",
        "{{ config }}",
        "{{ self }}",
        "{{ loop.index }}",
        "{{ range(10) }}",
        "{{ lipsum() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% set x = subscriber.name %}",
        "{% include 'secret' %}",
        "{% import 'secret' as x %}",
        "{% extends 'secret' %}",
        "{% macro x() %}{% endmacro %}",
        "{% filter upper %}x{% endfilter %}",
        "{% autoescape false %}{{ subscriber.name }}{% endautoescape %}",
        "{% block x %}{% endblock %}",
        "{% for a in subscriber.tags %}{% for b in subscriber.tags %}x{% endfor %}{% endfor %}",
        "{% for a in 'abc' %}x{% endfor %}",
        "{% for a in subscriber.tags recursive %}{{ loop(a) }}{% endfor %}",
        "{% for a in subscriber.tags %}{{ loop.cycle('a') }}{% endfor %}",
        "{% for a, b in subscriber.tags %}x{% endfor %}",
        "{% for _0 in subscriber.tags %}x{% endfor %}",
        "{% for urls in subscriber.tags %}x{% endfor %}",
        "{% for a in subscriber.tags %}x{% endfor %}{{ a }}",
        "{{ subscriber.name | truncate(subscriber.name) }}",
        "{{ subscriber.name | default(*subscriber.tags) }}",
        "{{ subscriber.day | date('yyyyyyyy') }}",
        "{{ subscriber.name is divisibleby 3 }}",
        "{{ subscriber.name",
        "{{ " + "(" * 5000,
        "nothing \0click\0",
    ],
)
def test_refused_with_the_place(source: str) -> None:
    with pytest.raises(SourceError, match=r"^001: text:"):
        filled("\n" + source, name="x", tags=("a",))


def test_the_error_names_the_line() -> None:
    with pytest.raises(SourceError, match=r"^001: text:3: 'mul' cannot be used per subscriber$"):
        filled("one\ntwo\n{{ 'a' * 9 }}")
