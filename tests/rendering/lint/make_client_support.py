"""Write `client_support.json` anew from caniemail's facts, one JSON object a line for each feature.

    python -m tests.rendering.lint.make_client_support client-support.jsonl

Each line has `feature` (caniemail's slug), `title`, `tested` (a date), and `support`: for each client and
platform `y`, `n`, `a` (in part) or `u` (unknown), followed by notes, which are left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final, TypedDict

TARGET: Final = Path(__file__).parents[3] / "mailer" / "rendering" / "lint" / "client_support.json"
NOTICE: Final = (
    "Made from the data of caniemail.com (MIT License, Copyright its contributors). "
    "For each feature a letter for each client: y supported, a in part, n not supported, - unknown."
)
# What one title of the data means in properties, where the title is not the property's name.
_GROUPS: Final = {
    "css-block-inline-size": ["block-size"],
    "css-border-inline-block": ["border-inline", "border-block"],
    "css-column-layout-properties": ["columns", "column-width", "column-rule", "column-span"],
    "css-gap": ["gap", "row-gap", "column-gap"],
    "css-grid-template": [
        "grid-template",
        "grid-template-areas",
        "grid-template-columns",
        "grid-template-rows",
    ],
    "css-left-right-top-bottom": ["left", "right", "top", "bottom"],
    "css-margin-block-start-end": ["margin-block-start", "margin-block-end"],
    "css-margin-inline-block": ["margin-inline", "margin-block"],
    "css-margin-inline-start-end": ["margin-inline-start", "margin-inline-end"],
    "css-padding-block-start-end": ["padding-block-start", "padding-block-end"],
    "css-padding-inline-block": ["padding-inline", "padding-block"],
    "css-padding-inline-start-end": ["padding-inline-start", "padding-inline-end"],
    "css-color-scheme": ["color-scheme"],
    "css-font": ["font"],
    "css-margin": ["margin", "margin-top", "margin-right", "margin-bottom", "margin-left"],
    "css-padding": ["padding", "padding-top", "padding-right", "padding-bottom", "padding-left"],
    "css-border": ["border", "border-top", "border-right", "border-bottom", "border-left"],
}
_SELECTORS: Final = {
    "css-selector-adjacent-sibling": "+",
    "css-selector-attribute": "[",
    "css-selector-child": ">",
    "css-selector-class": ".",
    "css-selector-descendant": " ",
    "css-selector-general-sibling": "~",
    "css-selector-id": "#",
    "css-selector-universal": "*",
    "css-selector-chaining": "chained",
    "css-pseudo-class-lang": ":lang",
}
_ELEMENTS: Final = {
    "html-address": ["address"],
    "html-base": ["base"],
    "html-h1-h6": ["h1", "h2", "h3", "h4", "h5", "h6"],
    "html-lists": ["ul", "ol", "li", "dl", "dt", "dd"],
    "html-semantics": ["article", "aside", "details", "figcaption", "figure", "footer", "header", "main",
                       "mark", "nav", "section", "summary", "time"],
    "html-image-maps": ["map", "area"],
    "html-strong": ["strong", "b", "em", "i"],
    "html-svg": ["svg"],
}  # fmt: skip
_OTHERS: Final = {
    **{slug: [("properties", name) for name in names] for slug, names in _GROUPS.items()},
    **{slug: [("selectors", name)] for slug, name in _SELECTORS.items()},
    **{slug: [("elements", name) for name in names] for slug, names in _ELEMENTS.items()},
    "css-variables": [("functions", "var")],
    "css-important": [("values", "!important")],
    "css-sytem-ui": [("values", f"ui-{name}") for name in ("serif", "sans-serif", "rounded", "monospace")]
    + [("values", "system-ui")],
}


class Row(TypedDict):
    """One line of the input."""

    feature: str
    title: str
    tested: str
    support: dict[str, str]


def slimmed(rows: list[Row]) -> dict[str, object]:
    """Return the table that the check reads."""
    clients = list(dict.fromkeys(client for row in rows for client in row["support"]))
    out: dict[str, dict[str, str]] = {
        kind: {} for kind in ("properties", "values", "functions", "units", "elements", "attributes", "rules",
                              "selectors")
    }  # fmt: skip
    for row in rows:
        letters = "".join(row["support"].get(client, "-")[:1].replace("u", "-") for client in clients)
        for kind, name in _names(row["feature"], row["title"].strip()):
            out[kind].setdefault(name, letters)
    return {
        "notice": NOTICE,
        "date": max(row["tested"] for row in rows),
        "clients": clients,
        **{kind: dict(sorted(names.items())) for kind, names in out.items()},
    }


def _names(slug: str, title: str) -> list[tuple[str, str]]:
    """Return the kinds and names under which the check looks a feature up."""
    if slug in _OTHERS:
        return _OTHERS[slug]
    if slug.startswith("css-at-"):
        return [("rules", name) for name in re.findall(r"@[a-z-]+(?: \([a-z-]+\))?", title)]
    if slug.startswith("css-pseudo-"):
        return [("selectors", title.removesuffix("()"))]
    if slug.startswith("css-") and (found := re.fullmatch(r"([a-z-]+): ?([a-z-]+)", title)):
        return [("values", f"{found[1]}:{found[2]}")]
    if slug.startswith("css-") and "()" in title:
        return [("functions", name) for name in re.findall(r"([a-z-]+)\(\)", title)]
    if slug.startswith("css-unit-") and (found := re.fullmatch(r"([a-z]+|%) unit", title)):
        return [("units", found[1])]
    if slug.startswith("css-") and re.fullmatch(r"[a-z-]+( property)?", title):
        return [("properties", title.removesuffix(" property"))]
    if slug.startswith("html-") and (found := re.fullmatch(r"<([a-z0-9]+)> element", title)):
        return [("elements", found[1])]
    if slug.startswith("html-") and (found := re.fullmatch(r"([a-z-]+) attribute", title)):
        return [("attributes", found[1])]
    return []


def main() -> None:
    """Read the named file, and write the table."""
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    table = slimmed([json.loads(line) for line in lines if line.strip()])
    TARGET.write_text(json.dumps(table, indent=0) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, newest test {table['date']}")


if __name__ == "__main__":
    main()
