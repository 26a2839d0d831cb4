"""`mailer init --with`: files that run a newsletter under systemd or in containers."""

from __future__ import annotations

import getpass
import grp
import os
import re
import secrets
import shlex
import sys
from pathlib import Path
from typing import Final, Literal

from mailer.config.shipped import shipped
from mailer.errors import RefusedError

Kind = Literal["systemd", "compose"]

_HOMES: Final = (Path("/home"), Path("/root"))
_IMAGE_USER: Final = 10_001
"""The user of the image, unless another is named."""


def write(kind: Kind, folder: Path, host: str) -> list[Path]:
    """Write the files to `deploy/` in the newsletter's folder, filled in for it; return their paths.

    `host` is the host of the public pages. Raises `RefusedError` if there is such a folder already.
    """
    target = folder / "deploy"
    if target.exists():
        raise RefusedError(
            f"{target} already exists", remedy="remove it, or copy what you need from the sources"
        )
    files = _systemd(folder.resolve(), host) if kind == "systemd" else _compose(folder, host)
    target.mkdir(parents=True)
    for name, text in files.items():
        path = target / name
        path.touch(mode=0o600 if name == ".env" else 0o644)
        path.write_text(text, encoding="utf-8")
    return [target / name for name in files]


def next_steps(kind: Kind, folder: Path) -> list[str]:
    """Return instructions for using the files."""
    target = shlex.quote(str(folder / "deploy"))
    if kind == "systemd":
        return [
            f"sudo cp {target}/*.service {target}/*.timer /etc/systemd/system/",
            "sudo systemctl enable --now mailer-web mailer-worker mailer-backup.timer",
            f"serve the pages with {target}/Caddyfile or {target}/nginx.conf",
        ]
    return [
        "in the sources of mailer: docker build -f deploy/Containerfile -t mailer .",
        f"docker compose -f {target}/compose.yaml up -d",
    ]


def _systemd(folder: Path, host: str) -> dict[str, str]:
    files = {path.name: path.read_text(encoding="utf-8") for path in shipped("deploy/systemd").iterdir()}
    script = Path(sys.prefix) / "bin" / "mailer"
    # Without a script, as in a source tree, the interpreter runs the package.
    program = _escaped(script) if script.exists() else f"{_escaped(Path(sys.executable))} -m mailer"
    user, group = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    visible = [path for path in (Path(sys.prefix), Path(sys.base_prefix)) if _is_at_home(path)]
    # Of the homes, the services see the newsletter, and the program if it is installed there.
    seen = [f"BindReadOnlyPaths={_escaped(path)}" for path in dict.fromkeys(visible)]
    if _is_at_home(folder):
        seen.append(f"BindPaths={_escaped(folder)}")
    home = "\n".join(["ProtectHome=tmpfs", *seen]) if seen else "ProtectHome=yes"
    replaced = {
        "/usr/local/bin/mailer": program,
        "/srv/letters": _escaped(folder),
        "User=letters": f"User={user}",
        "Group=letters": f"Group={group}",
        "ProtectHome=yes": home,
    }
    for name, text in files.items():
        for ours, theirs in replaced.items():
            text = text.replace(ours, theirs)
        files[name] = text
    for name in ("Caddyfile", "nginx.conf"):
        files[name] = _for_host((shipped("deploy") / name).read_text(encoding="utf-8"), host)
    return files


def _is_at_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in _HOMES)


def _escaped(path: Path) -> str:
    """Return a path as systemd wants it: quoted if it has blanks, with % doubled."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text


def _compose(folder: Path, host: str) -> dict[str, str]:
    source = shipped("deploy/compose")
    text = (source / "compose.yaml").read_text(encoding="utf-8")
    # The image is built from the sources, which are not here.
    text = re.sub(r"^  build:\n(?:    .*\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"\A(?:#.*\n)+", "# Made by mailer init. .env has the password of the database.\n", text)
    owner = os.getuid() or _IMAGE_USER
    text = text.replace("  image: mailer\n", f'  image: mailer\n  user: "{owner}:{os.getgid() or owner}"\n')
    text = text.replace('volumes: ["./letters:/letters"]', 'volumes: ["..:/letters"]')
    return {
        "compose.yaml": text,
        "Caddyfile": _for_host((source / "Caddyfile").read_text(encoding="utf-8"), host),
        ".env": f"DB_PASSWORD={secrets.token_urlsafe(24)}\n",
    }


def _for_host(text: str, host: str) -> str:
    return text.replace("letters.example.org", host)
