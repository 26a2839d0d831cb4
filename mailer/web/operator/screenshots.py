"""Screenshots of messages, as the preview shows them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from mailer.rendering.html.variants import Scheme, in_scheme
from mailer.review.chromium import find_chromium, started
from mailer.review.viewing import mail_policy
from mailer.web.operator.preview import DESKTOP_WIDTH, PHONE_WIDTH


def take(html: str, folder: Path, name: str) -> Iterator[Path]:
    """Write a PNG for each width, light and dark, with and without images; yield the path of each.

    Raises `ConfigError` if there is no Chromium.
    """
    program = find_chromium()
    folder.mkdir(parents=True, exist_ok=True)
    with started(program) as browser:
        for width, scheme, images in product((DESKTOP_WIDTH, PHONE_WIDTH), Scheme, (True, False)):
            policy = mail_policy(images=images)
            picture = browser.photograph(in_scheme(html, scheme), policy=policy, width=width)
            path = folder / f"{name}-{width}-{scheme}{'' if images else '-images-off'}.png"
            path.write_bytes(picture)
            yield path
