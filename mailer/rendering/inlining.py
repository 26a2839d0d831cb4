"""Premailer, which puts the styles on the elements, without what it would load from the web with.

Premailer imports requests for style sheets that stand on a web server. We give it every style sheet as
text, and allow no network; loading requests with all that it needs would take as long as an issue.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def _without_requests() -> type[Any]:
    """Return the inliner; for it alone requests is an empty module, in which nothing can be called."""
    loaded = sys.modules.get("requests")
    sys.modules["requests"] = ModuleType("requests")
    try:
        from premailer import Premailer
    finally:
        del sys.modules["requests"]
        if loaded is not None:
            sys.modules["requests"] = loaded
    return Premailer  # type: ignore[no-any-return]


Premailer: Any = _without_requests()
