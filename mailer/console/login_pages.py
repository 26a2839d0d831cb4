"""The pages around the login, which work without a session."""

from __future__ import annotations

import asyncio
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mailer.config import Console
from mailer.console.passkeys import Site, site_of
from mailer.console.users import users
from mailer.database.engine import Database

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE: Final = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in · {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/console.css"></head>
<body class="login"><main><p class="login-name">{name}</p>{content}</main></body></html>""")
_FORM: Final = Markup("""<h1>Log in</h1>{problem}
<form method="post" action="/login">
<label>Name <input name="name" autocomplete="username" required maxlength="64" value="{who}"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required
 maxlength="256"></label>
<label>Code from your authenticator app <input name="code" inputmode="numeric"
 autocomplete="one-time-code" required maxlength="12"></label>
<button>Log in</button></form>{others}""")
_PASSKEY: Final = Markup("""<button type="button" id="passkey" class="second" hidden>Use a passkey</button>
<p class="problem" id="passkey-problem" role="alert"></p><script src="/passkey.js" defer></script>""")
_OIDC: Final = Markup('<a class="second" href="/login/oidc">Log in with {}</a>')
_PROBLEM: Final = Markup('<p class="problem" role="alert">{}</p>')
_NO_USERS: Final = Markup("""<h1>Open the console with its link</h1>{problem}
<p>The link that <code>mailer console</code> printed logs you in. It works once, for fifteen minutes.</p>
<p>For another link, run <code>mailer console --link</code> in the newsletter's folder.</p>""")


class LoginPages:
    """The form, and the page that follows a login."""

    def __init__(self, database: Database, rules: Console, cookie: str, name: str) -> None:
        self.database = database
        self.rules = rules
        self.cookie = cookie
        self._name = name

    @property
    def secure(self) -> bool:
        """Whether browsers may send our cookies over https only."""
        return self.cookie.startswith("__Host-")

    def site(self, request: Request) -> Site:
        """Return where the browser is."""
        return site_of(request, self.rules.public_url)

    async def form(
        self, request: Request, problem: str = "", *, who: str = "", status: int = 200
    ) -> Response:
        """Return the page with all ways to log in."""
        said = _PROBLEM.format(problem) if problem else Markup("")
        template = _FORM if await asyncio.to_thread(self._any_users) else _NO_USERS
        others = _OIDC.format(self.rules.oidc.name) if self.rules.oidc else Markup("")
        others += _PASSKEY if self.site(request).usable else Markup("")
        return self._page(template.format(problem=said, who=who, others=others), status)

    def entered(self, secret: str) -> Response:
        """Set the cookie. The secret is new, whatever cookie the browser brought (session fixation)."""
        # Not a redirect: after a click in another program, browsers keep a strict cookie from a redirect.
        answer = self._page(Markup('<p><a href="/">Continue to the console</a></p>'), 200)
        answer.headers["refresh"] = "0; url=/"
        answer.set_cookie(
            self.cookie,
            secret,
            max_age=int(self.rules.session.total_seconds()),
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _page(self, content: Markup, status: int) -> HTMLResponse:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
        return HTMLResponse(_PAGE.format(name=self._name, content=content), status, headers)

    def _any_users(self) -> bool:
        with self.database.reading() as connection:
            return bool(users(connection))
