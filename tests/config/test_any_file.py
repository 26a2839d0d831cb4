"""Any config.toml and environment gives either settings or an error with its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.config import Section, Settings, flatten, load
from mailer.errors import ConfigError


def keys(kind: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every key of config.toml."""
    for field in msgspec.structs.fields(kind):
        yield (*prefix, field.name)
        for one in (field.type, *get_args(field.type)):
            if isinstance(one, type) and issubclass(one, Section):
                named = () if one is field.type or get_args(field.type)[1:] == (...,) else ("some",)
                yield from keys(one, (*prefix, field.name, *named))


KEYS = sorted(set(keys(Settings)))
ODD = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "\x00",
                "a\nb: c",
                "PT",
                "PT1H",
                "P99999999999D",
                "101%",
                "-1%",
                "é@é",
                "a@b",
                "http://",
                "~",
            ),
            *(
                "https://[::1",
                "https://a b",
                "127.0.0.1",
                "::1",
                "/etc",
                "..",
                "sqlite://",
                "{",
                "\ud7ff",
                "x" * 3000,
            ),
            *(0, -1, 1, 65536, 10**30, -(10**30), 0.0, -1.5, 1e308, float("inf"), float("nan"), True, False),
            *([], [[]], [""], {}, {"": ""}, {"a": {"b": {"c": []}}}),
        ]
    ),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    found: dict[str, Any] = value
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text("", encoding="utf-8")
    return path


def obscure_words(file: Path, **options: Any) -> list[str]:
    """Load the file; return the words of its error, if any, that are not for operators."""
    try:
        flatten(load(file, **options))
    except ConfigError as error:
        signs = ("Traceback", "[Errno", "regex", "<class", "msgspec", "object at 0x")
        return [sign for sign in signs if sign in error.message] if error.message else ["no message"]
    return []


@given(path=st.sampled_from(KEYS), value=ODD)
@settings(deadline=None, max_examples=300)
def test_any_value_of_any_key(file: Path, path: tuple[str, ...], value: Any) -> None:
    assert obscure_words(file, flags=nested(path, value)) == []


@given(
    path=st.sampled_from(KEYS),
    value=st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=20),
)
@settings(deadline=None, max_examples=100)
def test_any_text_in_any_variable(file: Path, path: tuple[str, ...], value: str) -> None:
    name = "MAILER_" + "__".join(path).upper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        assert obscure_words(file) == []
    assert name not in os.environ


@given(
    raw=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@settings(deadline=None, max_examples=200)
def test_any_octets(file: Path, raw: bytes) -> None:
    own = file.with_name("any.toml")
    own.write_bytes(raw)
    assert obscure_words(own) == []


@pytest.mark.parametrize(
    "raw",
    [b"a = " + b"[" * 5_000, b"a = " + b"9" * 5_000, b"a" + b".a" * 5_000 + b" = 1", b"\xef\xbb\xbf[web]\n"],
)
def test_octets_that_break_parsers(file: Path, raw: bytes) -> None:
    own = file.with_name("deep.toml")
    own.write_bytes(raw)
    assert obscure_words(own) == []


@pytest.mark.parametrize(
    "names",
    [
        ("MAILER_WEB", "MAILER_WEB__PORT"),
        ("MAILER_WEB__PORT__X", "MAILER_WEB__PORT"),
        ("MAILER_",),
        ("MAILER___",),
    ],
)
def test_variables_that_contradict_each_other(
    file: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name in names:
        monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError):
        load(file)
