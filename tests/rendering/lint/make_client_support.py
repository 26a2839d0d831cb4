"""Write `client_support.json` anew from the data of caniemail.com.

    npm pack caniemail && tar xzf caniemail-*.tgz
    python -m tests.rendering.lint.make_client_support package/dist/data/caniemail.json

Of each feature only the clients that do not know it are kept, by their newest tested version.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).parents[3] / "mailer" / "rendering" / "lint" / "client_support.json"
NOTICE: Final = (
    "Made from the data of caniemail.com as packaged by npm caniemail (MIT License, "
    "Copyright Avi Goldman, Andrew Powell). Feature to the clients whose newest tested version lacks it."
)
CLIENTS: Final = {
    ("gmail", "desktop-webmail"): "Gmail",
    ("gmail", "ios"): "Gmail",
    ("gmail", "android"): "Gmail",
    ("apple-mail", "macos"): "Apple Mail",
    ("apple-mail", "ios"): "Apple Mail",
    ("outlook", "windows"): "Outlook for Windows",
    ("outlook", "outlook-com"): "Outlook.com",
    ("outlook", "ios"): "Outlook's apps",
    ("outlook", "android"): "Outlook's apps",
    ("outlook", "macos"): "Outlook's apps",
    ("yahoo", "desktop-webmail"): "Yahoo",
    ("yahoo", "ios"): "Yahoo",
    ("yahoo", "android"): "Yahoo",
}
# What one title of the data means in properties, where the title is not the property's name.
_GROUPS: Final = {
    "css-block-inline-size": ["block-size", "inline-size"],
    "css-border-inline-block": ["border-inline", "border-block"],
    "css-column-layout-properties": ["columns", "column-count", "column-width", "column-rule", "column-span"],
    "css-gap": ["gap", "row-gap"],
    "css-grid-template": ["grid-template", "grid-template-areas", "grid-template-columns"],
    "css-left-right-top-bottom": ["left", "right", "top", "bottom"],
    "css-margin-block-start-end": ["margin-block-start", "margin-block-end"],
    "css-margin-inline-block": ["margin-inline", "margin-block"],
    "css-margin-inline-start-end": ["margin-inline-start", "margin-inline-end"],
    "css-padding-block-start-end": ["padding-block-start", "padding-block-end"],
    "css-padding-inline-block": ["padding-inline", "padding-block"],
    "css-padding-inline-start-end": ["padding-inline-start", "padding-inline-end"],
}


def slimmed(data: dict[str, Any]) -> dict[str, Any]:
    """Return the table that the check reads."""
    out: dict[str, dict[str, list[str]]] = {
        "properties": {}, "values": {}, "functions": {}, "units": {}, "elements": {}
    }  # fmt: skip
    for feature in data["data"]:
        lacking = _lacking(feature["stats"])
        if not lacking:
            continue
        for kind, name in _names(feature["slug"], feature["title"]):
            out[kind][name] = lacking
    return {
        "notice": NOTICE,
        "date": data["last_update_date"][:10],
        **{kind: dict(sorted(names.items())) for kind, names in out.items()},
    }


def _lacking(stats: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    out: list[str] = []
    for (family, platform), client in CLIENTS.items():
        versions = list(stats.get(family, {}).get(platform, {}).values())
        if versions and versions[-1].startswith("n") and client not in out:
            out.append(client)
    return out


def _names(slug: str, title: str) -> list[tuple[str, str]]:
    """Return the kinds and names under which the check looks a feature up."""
    title = title.strip()
    if slug in _GROUPS:
        return [("properties", name) for name in _GROUPS[slug]]
    if slug == "css-variables":
        return [("functions", "var")]
    if slug.startswith("css-") and (found := re.fullmatch(r"([a-z-]+): ?([a-z-]+)", title)):
        return [("values", f"{found[1]}:{found[2]}")]
    if slug.startswith(("css-function-", "css-unit-calc")) or title.endswith("-gradient()"):
        return [("functions", name) for name in re.findall(r"([a-z-]+)\(\)", title)]
    if slug.startswith("css-unit-") and (found := re.fullmatch(r"([a-z]+) unit", title)):
        return [("units", found[1])]
    if slug.startswith("css-") and re.fullmatch(r"[a-z-]+( property)?", title):
        return [("properties", title.removesuffix(" property"))]
    if slug.startswith("html-") and (found := re.fullmatch(r"<([a-z0-9]+)> element", title)):
        return [("elements", found[1])]
    return []


def main() -> None:
    """Read the file that was named, and write the table."""
    table = slimmed(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    TARGET.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET}: {sum(map(len, table.values())):,} of {table['date']}")


if __name__ == "__main__":
    main()
