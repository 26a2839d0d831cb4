"""Features that email clients do not support, from caniemail's data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

# Without these features a message is as readable, only plainer, so they need no warning.
GRACEFUL: Final = frozenset(
    [
        "border-radius",
        "float",
        "clear",
        "box-shadow",
        "text-shadow",
        "box-sizing",
        "overflow",
        "overflow-wrap",
        "word-wrap",
        "word-break",
        "word-spacing",
        "white-space",
        "hyphens",
        "tab-size",
        "cursor",
        "color-scheme",
        "font-kerning",
        "font-stretch",
        "outline",
        "outline-offset",
        "transition",
        "animation",
        "user-select",
        "resize",
        "orphans",
        "widows",
        "border-spacing",
        "table-layout",
        "text-overflow",
        "text-underline-offset",
        "text-decoration-thickness",
        "text-decoration-color",
        "text-decoration-style",
        "text-decoration-line",
        "text-decoration-skip-ink",
        "text-wrap",
        "text-justify",
        "text-align-last",
        "list-style-position",
        "max-height",
        "min-height",
        "min-width",
        "height",
        "object-fit",
        "object-position",
        "background-size",
        "background-repeat",
        "background-position",
        "background-clip",
        "background-origin",
        "accent-color",
        "abbr",
        "acronym",
        "bdi",
        "wbr",
        "ruby",
        "rt",
        "rp",
        "html",
        "body",
    ]
)

Table = Mapping[str, Mapping[str, list[str]]]


@cache
def _table() -> Table:
    table: Table = json.loads(Path(__file__).with_name("client_support.json").read_text(encoding="utf-8"))
    return table


def unsupported(tag: str, declarations: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield each unsupported feature of an element: its name, the clients, and how it is written."""
    table = _table()
    if (clients := table["elements"].get(tag)) and tag not in GRACEFUL:
        yield f"<{tag}>", _joined(clients), f"<{tag}"
    for name, value in declarations.items():
        value = value.lower()
        if name in GRACEFUL:
            continue
        if clients := table["properties"].get(name):
            yield name, _joined(clients), name
        elif clients := table["values"].get(f"{name}:{value}"):
            yield f"{name}: {value}", _joined(clients), value
        for function in re.findall(r"([a-z-]+)\(", value):
            if clients := table["functions"].get(function):
                yield f"{function}()", _joined(clients), f"{function}("
        for unit in re.findall(r"(?<![\w#.-])-?[\d.]+([a-z]+)", value):
            if clients := table["units"].get(unit):
                yield f"the unit {unit}", _joined(clients), value


def _joined(clients: list[str]) -> str:
    return clients[0] if len(clients) == 1 else f"{', '.join(clients[:-1])} and {clients[-1]}"
