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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing, program

USER, PASSWORD = "bounces", "a-word"
_QUEUES = (
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
auth_username_format = %n
mail_location = maildir:{folder}/mail
first_valid_uid = 1
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
local_recipient_maps =
alias_maps =
virtual_alias_maps = regexp:{folder}/aliases
transport_maps = inline:{{ example.com=lmtp:inet:127.0.0.1:{lmtp} }}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
"""
_MASTER = """\
127.0.0.1:{smtp} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
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
    """The ports: `smtp` of Postfix, `imap` and `pop3` of Dovecot with one mailbox."""

    smtp: int
    imap: int
    pop3: int


@contextlib.contextmanager
def mail_servers() -> Iterator[MailServers]:
    """Run Postfix before Dovecot. Who is not `bounces@example.com` is unknown at example.com.

    Every `b.…@bounce.example.org` goes to that one mailbox. Needs root, as these servers do.
    """
    dovecot = program("dovecot")
    program("postfix")
    master = Path("/usr/lib/postfix/sbin/master")
    if os.geteuid() != 0 or not master.exists():
        missing("root, or Postfix's master,")
    smtp, imap, pop3, lmtp = _free_ports(4)
    with contextlib.ExitStack() as stack:
        # Not below pytest's folder: the servers' own accounts must be able to walk there.
        box, post = (Path(stack.enter_context(_folder(name))) for name in ("mailer-d", "mailer-p"))
        _write_dovecot(box, imap=imap, pop3=pop3, lmtp=lmtp)
        _write_postfix(post, smtp=smtp, lmtp=lmtp)
        for command, log in (
            ([dovecot, "-F", "-c", str(box / "dovecot.conf")], box / "log"),
            ([str(master), "-c", str(post / "etc"), "-d"], post / "log"),
        ):
            stack.enter_context(_running(command, log))
        for port in (smtp, imap, pop3, lmtp):
            _wait_for(port, (box / "log", post / "log"))
        yield MailServers(smtp, imap, pop3)


@contextlib.contextmanager
def _folder(name: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix=name)
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_dovecot(folder: Path, *, imap: int, pop3: int, lmtp: int) -> None:
    nobody = pwd.getpwnam("nobody")
    (folder / "mail").mkdir()
    os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
    users = folder / "users"
    users.write_text(f"{USER}:{{PLAIN}}{PASSWORD}:{nobody.pw_uid}:{nobody.pw_gid}::{folder}/mail\n")
    (folder / "dovecot.conf").write_text(_DOVECOT.format(folder=folder, imap=imap, pop3=pop3, lmtp=lmtp))


def _write_postfix(folder: Path, *, smtp: int, lmtp: int) -> None:
    owner = pwd.getpwnam("postfix")
    for name in _QUEUES:
        (folder / "spool" / name).mkdir(parents=True)
        os.chown(folder / "spool" / name, 0 if name == "pid" else owner.pw_uid, owner.pw_gid)
    (folder / "data").mkdir()
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    etc = folder / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(_MAIN.format(folder=folder, lmtp=lmtp))
    (etc / "master.cf").write_text(_MASTER.format(smtp=smtp))
    (folder / "aliases").write_text(rf"/^b\..*@bounce\.example\.org$/ {USER}@example.com" + "\n")


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(port: int, logs: tuple[Path, ...]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    said = "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.exists())
    raise AssertionError(f"no server on port {port}:\n{said}")
