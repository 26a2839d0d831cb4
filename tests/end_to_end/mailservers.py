"""Postfix and Dovecot on loopback ports, each with its own configuration in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing, program
from tests.ports import free_ports

USER, PASSWORD = "bounces", "a-word"
FULL = "full"
"""The mailbox that holds as much as it may."""
QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "pid",
    "private", "public", "saved", "trace",
)  # fmt: skip
_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
auth_username_format = %n
mail_location = maildir:{folder}/mail/%n
first_valid_uid = 1
mail_plugins = quota
plugin {{
  quota = maildir:mailbox
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""
_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
in_flow_delay = 0
local_recipient_maps =
alias_maps =
virtual_alias_maps = regexp:{folder}/aliases
transport_maps = texthash:{folder}/transport
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
"""
_TRANSPORT = """\
example.com lmtp:inet:127.0.0.1:{lmtp}
small.example.com smtp:[127.0.0.1]:{small}
direct.example.org lmtp:inet:127.0.0.1:{intake}
"""
_MASTER = """\
127.0.0.1:{smtp} inet n - n - - smtpd
# Another server, in effect: one that takes short messages only.
127.0.0.1:{small} inet n - n - - smtpd
  -o message_size_limit=2000 -o myhostname=small.example.com
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class MailServers:
    """The ports: `smtp` of Postfix, `imap` and `pop3` of Dovecot, `intake` for an LMTP server of ours."""

    smtp: int
    imap: int
    pop3: int
    intake: int
    mailboxes: Path
    """One Maildir for each local part."""
    queue: Path

    @property
    def bounces(self) -> Path:
        """The Maildir where reports arrive."""
        return self.mailboxes / USER

    def mails(self, local: str) -> list[bytes]:
        """Return what has arrived for a reader."""
        new = self.mailboxes / local / "new"
        return [path.read_bytes() for path in new.iterdir()] if new.exists() else []

    def wait_until_delivered(self) -> None:
        """Wait until Postfix's queue is empty: everything has arrived or come back."""
        until = time.monotonic() + 60
        queues = [self.queue / name for name in ("incoming", "active", "deferred", "maildrop")]
        while any(path.is_file() for queue in queues for path in queue.rglob("*")):
            assert time.monotonic() < until, (self.queue.parent / "log").read_text(errors="replace")[-4000:]
            time.sleep(0.1)


@contextlib.contextmanager
def mail_servers(readers: Sequence[str] = ()) -> Iterator[MailServers]:
    """Run Postfix before Dovecot. Needs root, as these servers do.

    At example.com there are the `readers`, a mailbox that is full, and the one for reports; anybody else
    is unknown there. small.example.com takes messages of 2,000 octets. Every `b.…@bounce.example.org`
    goes to the mailbox for reports, every `…@direct.example.org` to the port `intake`.
    """
    dovecot = program("dovecot")
    program("postfix")
    master = Path("/usr/lib/postfix/sbin/master")
    if os.geteuid() != 0 or not master.exists():
        missing("root, or Postfix's master,")
    smtp, small, imap, pop3, lmtp, intake = free_ports(6)
    with contextlib.ExitStack() as stack:
        # Not below pytest's folder: the servers' own accounts must be able to walk there.
        box, post = (Path(stack.enter_context(folder_for_servers(name))) for name in ("mailer-d", "mailer-p"))
        _write_dovecot(box, readers, imap=imap, pop3=pop3, lmtp=lmtp)
        _write_postfix(post, smtp=smtp, small=small, lmtp=lmtp, intake=intake)
        for command, log in (
            ([dovecot, "-F", "-c", str(box / "dovecot.conf")], box / "log"),
            ([str(master), "-c", str(post / "etc"), "-d"], post / "log"),
        ):
            stack.enter_context(running(command, log))
        for port in (smtp, small, imap, pop3, lmtp):
            wait_for_port(port, (box / "log", post / "log"))
        yield MailServers(smtp, imap, pop3, intake, box / "mail", post / "spool")


@contextlib.contextmanager
def folder_for_servers(name: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix=name)
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_dovecot(folder: Path, readers: Sequence[str], *, imap: int, pop3: int, lmtp: int) -> None:
    nobody = pwd.getpwnam("nobody")
    (folder / "mail").mkdir()
    os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
    users = folder / "users"
    account = f"{{PLAIN}}{PASSWORD}:{nobody.pw_uid}:{nobody.pw_gid}::{folder}/mail"
    lines = [f"{name}:{account}\n" for name in (USER, *readers)]
    lines.append(f"{FULL}:{account}::userdb_quota_rule=*:bytes=1\n")
    users.write_text("".join(lines))
    (folder / "dovecot.conf").write_text(_DOVECOT.format(folder=folder, imap=imap, pop3=pop3, lmtp=lmtp))


def _write_postfix(folder: Path, **ports: int) -> None:
    owner = pwd.getpwnam("postfix")
    for name in QUEUES:
        (folder / "spool" / name).mkdir(parents=True)
        os.chown(folder / "spool" / name, 0 if name == "pid" else owner.pw_uid, owner.pw_gid)
    (folder / "data").mkdir()
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    etc = folder / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(_MAIN.format(folder=folder))
    (etc / "master.cf").write_text(_MASTER.format(**ports))
    (folder / "transport").write_text(_TRANSPORT.format(**ports))
    (folder / "aliases").write_text(rf"/^b\..*@bounce\.example\.org$/ {USER}@example.com" + "\n")


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def wait_for_port(port: int, logs: tuple[Path, ...]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    said = "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.exists())
    raise AssertionError(f"no server on port {port}:\n{said}")
