"""How long an issue takes to read."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final, Literal

from babel import Locale
from babel.dates import format_timedelta

from mailer.rendering.templating.filters import locale_of

# Han, kana and Hangul. Readers manage about two of these characters in the time of one word.
_CHARACTERS: Final = re.compile(
    "[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\uac00-\ud7a3"
    "\U00020000-\U0003ffff]"
)


def count_words(text: str) -> int:
    """Return the words of a text; two Chinese, Japanese or Korean characters count as one."""
    characters = _CHARACTERS.findall(text)
    words = _CHARACTERS.sub(" ", text).split() if characters else text.split()
    spoken = [word for word in words if not characters or any(map(str.isalnum, word))]
    return len(spoken) + (len(characters) + 1) // 2


def reading_time(
    words: int, words_per_minute: int = 250, *, language: str = "en", exact: bool = False
) -> str:
    """Return the time to read `words` in whole minutes, at least one, in a language (BCP 47).

    If `exact`, it has seconds: `4 minutes, 18 seconds`.
    """
    locale = locale_of(language)
    seconds = round(words * 60 / words_per_minute)
    if not exact:
        return _shown(max(1, round(seconds / 60)), "minute", locale)
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return _shown(seconds, "second", locale)
    if not seconds:
        return _shown(minutes, "minute", locale)
    styles = [locale.list_patterns.get(style, {}) for style in ("unit", "unit-short", "unit-narrow")]
    pair = next((style["2"] for style in styles if "2" in style), "{0}, {1}")
    return str(pair.format(_shown(minutes, "minute", locale), _shown(seconds, "second", locale)))


def _shown(number: int, unit: Literal["minute", "second"], locale: Locale) -> str:
    delta = timedelta(**{f"{unit}s": number})
    return format_timedelta(delta, granularity=unit, threshold=math.inf, locale=locale)
