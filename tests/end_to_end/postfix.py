"""A Postfix of our own on loopback: its configuration, queue and mailboxes in one folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import socket
import subprocess
import time
from pathlib import Path

from tests.conftest import missing, program

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.com
mydestination =
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
# Take mail for unknown readers as well, so that it comes back as a DSN and not as a reply.
smtpd_reject_unlisted_recipient = no
virtual_mailbox_domains = readers.example.com, bounce.example.org
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = texthash:{root}/etc/mailboxes
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
recipient_delimiter =
alias_maps =
alias_database =
local_recipient_maps =
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Mail to the `known` local parts at readers.example.com goes to a Maildir each.

    Mail to any other local part there is taken and comes back as Postfix's own DSN. Mail to the bounce
    domain goes to one Maildir, whatever the local part.
    """

    def __init__(self, root: Path, known: list[str]) -> None:
        self._command = program("postfix")
        if os.geteuid() != 0:
            missing("root, as whom Postfix is started,")
        self.root = root
        self.bounces = root / "mail" / "bounces"
        self._known = known
        self.port = 0

    def __enter__(self) -> Postfix:
        account = pwd.getpwnam("nobody")
        for name in ("etc", "queue", "data", "mail"):
            (self.root / name).mkdir(parents=True)
            (self.root / name).chmod(0o755)
        # Its processes run as accounts of their own and must reach their folders.
        for folder in (self.root, *self.root.parents):
            if folder.stat().st_uid == 0 and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        os.chown(self.root / "mail", account.pw_uid, account.pw_gid)
        os.chown(self.root / "data", pwd.getpwnam("postfix").pw_uid, -1)
        etc = self.root / "etc"
        main = _MAIN.format(root=self.root, uid=account.pw_uid, gid=account.pw_gid)
        (etc / "main.cf").write_text(main, encoding="utf-8")
        mailboxes = [f"{local}@readers.example.com readers/{local}/" for local in self._known]
        mailboxes.append("@bounce.example.org bounces/")
        (etc / "mailboxes").write_text("\n".join(mailboxes) + "\n", encoding="utf-8")
        for _ in range(5):
            # Between finding a free port and listening on it, another test may have taken it.
            self.port = _free_port()
            (etc / "master.cf").write_text(_MASTER.format(port=self.port), encoding="utf-8")
            for path in etc.iterdir():
                path.chmod(0o644)
            if not self._run("start"):
                return self
        raise AssertionError(self._run("start"))

    def __exit__(self, *failure: object) -> None:
        assert not self._run("stop")

    def wait_until_delivered(self) -> None:
        """Wait until the queue is empty: everything has arrived or come back."""
        until = time.monotonic() + 60
        queues = [self.root / "queue" / name for name in ("incoming", "active", "deferred", "maildrop")]
        while any(path.is_file() for queue in queues for path in queue.rglob("*")):
            assert time.monotonic() < until, (self.root / "log").read_text(encoding="utf-8")[-4000:]
            time.sleep(0.1)

    def mails(self, local: str) -> list[bytes]:
        """Return what arrived for a reader."""
        new = self.root / "mail" / "readers" / local / "new"
        return [path.read_bytes() for path in new.iterdir()] if new.exists() else []

    def _run(self, verb: str) -> str:
        """Run a verb of `postfix`; return what was said if it failed."""
        done = subprocess.run(
            [self._command, "-c", str(self.root / "etc"), verb],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = self.root / "log"
        said = log.read_text(encoding="utf-8") if log.exists() else ""
        return f"{verb}: {done.returncode}\n{done.stdout}{done.stderr}{said}" if done.returncode else ""


def _free_port() -> int:
    """Return a free port below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
