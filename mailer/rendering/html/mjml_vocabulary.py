"""The elements of MJML 4 and 5 and their attributes, for checks and suggestions."""

from __future__ import annotations

from typing import Final

_ANY: Final = "css-class mj-class"
_BOX: Final = "padding padding-top padding-right padding-bottom padding-left"
_BORDER: Final = "border border-top border-right border-bottom border-left border-radius"
_FONT: Final = (
    "color font-family font-size font-style font-weight letter-spacing line-height "
    "text-decoration text-transform"
)
_BACKGROUND: Final = (
    "background-color background-url background-repeat background-size background-position "
    "background-position-x background-position-y"
)

_TABLE: Final[dict[str, str]] = {
    "mjml": "lang dir owa",
    "mj-head": "",
    "mj-title": "",
    "mj-preview": "",
    "mj-font": "name href",
    "mj-breakpoint": "width",
    "mj-style": "",
    "mj-raw": "position",
    "mj-body": f"background-color width lang dir id {_ANY}",
    "mj-wrapper": f"{_BACKGROUND} {_BORDER} {_BOX} direction full-width gap text-align {_ANY}",
    "mj-section": f"{_BACKGROUND} {_BORDER} {_BOX} direction full-width text-align {_ANY}",
    "mj-group": f"background-color direction vertical-align width {_ANY}",
    "mj-column": (
        f"background-color inner-background-color inner-border inner-border-top inner-border-right "
        f"inner-border-bottom inner-border-left inner-border-radius direction vertical-align width "
        f"{_BORDER} {_BOX} {_ANY}"
    ),
    "mj-text": f"align container-background-color height vertical-align {_FONT} {_BOX} {_ANY}",
    "mj-image": (
        f"align alt container-background-color fluid-on-mobile font-size height href max-height max-width "
        f"name rel sizes src srcset target title usemap width {_BORDER} {_BOX} {_ANY}"
    ),
    "mj-button": (
        f"align background-color container-background-color height href inner-padding name rel target "
        f"text-align title vertical-align width {_FONT} {_BORDER} {_BOX} {_ANY}"
    ),
    "mj-divider": (
        f"align border-color border-style border-width container-background-color width {_BOX} {_ANY}"
    ),
    "mj-spacer": f"container-background-color height {_BOX} {_ANY}",
    "mj-table": (
        f"align border cellpadding cellspacing color container-background-color font-family font-size "
        f"font-weight line-height role table-layout vertical-align width {_BOX} {_ANY}"
    ),
    "mj-hero": (
        f"{_BACKGROUND} background-height background-width border-radius height inner-background-color "
        f"container-background-color mode vertical-align width {_BOX} {_ANY}"
    ),
}

ELEMENTS: Final = (*_TABLE, "mj-attributes", "mj-all", "mj-class")
# mj-attributes, mj-all and mj-class take the attributes of others and are not checked.
ATTRIBUTES: Final[dict[str, frozenset[str]]] = {
    name: frozenset(keys.split()) for name, keys in _TABLE.items()
}

_CONTENT: Final = "mj-text mj-image mj-button mj-divider mj-spacer mj-table mj-raw"
_HOLDS: Final[dict[str, str]] = {
    "": "mjml",
    "mjml": "mj-head mj-body",
    "mj-head": "mj-title mj-preview mj-font mj-breakpoint mj-style mj-raw mj-attributes",
    "mj-attributes": " ".join(name for name in ELEMENTS if name.startswith("mj-")),
    "mj-body": "mj-wrapper mj-section mj-hero mj-raw",
    "mj-wrapper": "mj-section mj-hero mj-raw",
    "mj-section": "mj-column mj-group mj-raw",
    "mj-group": "mj-column mj-raw",
    "mj-column": _CONTENT,
    "mj-hero": _CONTENT,
}
PARENTS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(parent for parent, children in _HOLDS.items() if name in children.split())
    for name in ELEMENTS
}
"""The allowed parents of each element. The converter silently drops or misplaces elements elsewhere."""
