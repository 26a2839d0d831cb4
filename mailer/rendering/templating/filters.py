"""Filters for both stages of Jinja; dates and numbers follow a language."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final
from urllib.parse import quote

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, is_currency

DATE_FORMATS: Final = ("short", "medium", "long", "full")
MAX_DECIMALS: Final = 10

FILTERS: Final = frozenset(
    {
        "capitalize", "d", "date", "default", "e", "escape", "first", "float", "int", "join", "last",
        "length", "lower", "money", "number", "round", "string", "title", "trim", "truncate", "upper",
        "urlencode",
    }
)  # fmt: skip


def by_language(language: str) -> dict[str, Callable[..., str]]:
    """Return `date`, `number`, `money` and `urlencode` for a language (BCP 47).

    Empty values stay empty. Other values that are not dates or numbers raise `ValueError`.
    """
    locale = locale_of(language)

    def shown_date(value: object, form: str = "long") -> str:
        return "" if _empty(value) else str(format_date(_day(value), form, locale))

    def number(value: object, decimals: int | None = None) -> str:
        if _empty(value):
            return ""
        pattern = None if decimals is None else "#,##0" + ("." + "0" * decimals if decimals else "")
        return str(format_decimal(_number(value), format=pattern, locale=locale))

    def money(value: object, currency: str) -> str:
        return "" if _empty(value) else str(format_currency(_number(value), currency, locale=locale))

    return {
        "date": shown_date,
        "number": number,
        "money": money,
        "urlencode": lambda value: quote(str(value), safe="/"),
    }


def direction_of(language: str) -> str:
    """Return `ltr` or `rtl`, as in HTML's `dir`, for a language (BCP 47)."""
    return "rtl" if locale_of(language).character_order == "right-to-left" else "ltr"


def wrong_argument(name: str, arguments: list[object]) -> str | None:
    """Return the problem with the constant arguments of a filter, or None."""
    if name == "date" and any(argument not in DATE_FORMATS for argument in arguments):
        return f"'date' knows {', '.join(DATE_FORMATS)}"
    if name == "number" and any(
        type(argument) is not int or not 0 <= argument <= MAX_DECIMALS for argument in arguments
    ):
        return f"'number' takes the number of decimals, 0 to {MAX_DECIMALS}"
    if name == "money" and (
        len(arguments) != 1 or not isinstance(arguments[0], str) or not is_currency(arguments[0])
    ):
        return "'money' takes the code of a currency, as in money('EUR')"
    return None


def _empty(value: object) -> bool:
    return value is None or value == ""


def _number(value: object) -> Decimal:
    with contextlib.suppress(InvalidOperation):
        number = Decimal(str(value))
        if number.is_finite() and abs(number.adjusted()) <= 30:
            return number
    raise ValueError(f"{str(value)[:40]!r} is not a number")


def _day(value: object) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError as error:
        raise ValueError(f"{str(value)[:40]!r} is not a date") from error


def locale_of(language: str) -> Locale:
    """Return the locale of a language (BCP 47), or English if Babel does not know it."""
    try:
        return Locale.parse(language, sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale("en")
