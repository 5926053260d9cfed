# ruff: noqa: D102  (what describe and execute are is said by Step)
"""/etc/resolv.conf, /etc/hosts and /etc/hostname of a jail, made for it.

A root that was made elsewhere knows the name servers and the names of where it was made. The
files are in a file system of their own, read-only, and bound over what the root has. A link in the
root that stands in the place of one (to /run/systemd/resolve, say) is read as that root would,
once; the file is made where it leads.
"""

from __future__ import annotations

import errno
import os
import stat

from donjon import log
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import hostview, mounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass
from donjon.syscalls import MOUNT_ATTR_NOEXEC

LOCAL = ("::1", "0.0.0.0", "::")
"""Beside 127.0.0.0/8, addresses of this host, which another network namespace does not reach."""

_RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The host's, and what systemd-resolved says behind its stub of 127.0.0.53."""

_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcFiles(Builtin):
    """Make the files named: ``resolv.conf``, ``hosts``, ``hostname``.

    ``nameservers`` replace the host's; ``own_network`` leaves out those that only the host
    reaches.
    """

    files: tuple[str, ...]
    hostname: str | None = None
    nameservers: tuple[str, ...] = ()
    own_network: bool = False
    required: bool = True  # else a read-only root without a place for one goes without

    def describe(self) -> str:
        names = [f"/etc/{name}" for name in self.files]
        return f"make {' '.join(names)} for the jail"

    def execute(self, context: Context) -> None:
        options: dict[str, str | None] = {"mode": "755", "size": "64k"}
        root = mounts.root_of(context)
        attributes = mounts.SAFE | MOUNT_ATTR_NOEXEC
        with mounts.new_filesystem("tmpfs", options, attributes) as store:
            # for a moment over /etc: before Linux 6.15 only what is attached can be cloned
            with paths.open_target(root, "/etc") as etc:
                mounts.attach(store, etc.fileno())
                made = [self._make(store.fileno(), name) for name in self.files]
                mounts.set_attributes(store, mounts.READ_ONLY, recursive=False)
                trees = [
                    (name, mounts.clone_at(store.fileno(), name, recursive=False)) for name in made
                ]
            mounts.detach(store)
        for name, tree in trees:
            with tree:
                self._attach(root, tree, f"/etc/{name}")

    def _attach(self, root: int, tree: Fd, path: str) -> None:
        try:
            with _place(root, path) as target:
                mounts.attach(tree, target.fileno())
        except JailError as error:
            cause = error.__cause__
            if self.required or not (isinstance(cause, OSError) and cause.errno == errno.EROFS):
                raise
            log.debug(str(error))

    def _make(self, store: int, name: str) -> str:
        file = Fd(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444, dir_fd=store))
        with file:
            os.write(file.fileno(), self.text(name).encode())
        return name

    def text(self, name: str) -> str:
        """Return what is in the file ``name``."""
        if name == "resolv.conf":
            return resolv_conf(self.nameservers, own_network=self.own_network)
        if name == "hostname":
            return f"{self.hostname}\n"
        return _HOSTS + (f"127.0.1.1 {self.hostname}\n" if self.hostname else "")


def resolv_conf(nameservers: tuple[str, ...], *, own_network: bool) -> str:
    """Return resolv.conf(5): the host's, or with other name servers."""
    if nameservers:
        return "".join(f"nameserver {address}\n" for address in nameservers)
    text = _read(_RESOLV_CONF[0])
    if not own_network:
        return text
    if all(_is_local(line) for line in text.splitlines() if _is_server(line)):
        text = _read(_RESOLV_CONF[1]) or text
    return "".join(f"{line}\n" for line in text.splitlines() if not _is_local(line))


def _is_server(line: str) -> bool:
    return line.split()[:1] == ["nameserver"]


def _is_local(line: str) -> bool:
    words = line.split()
    if not _is_server(line) or len(words) < 2:
        return False
    return words[1].startswith("127.") or words[1] in LOCAL


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(64 << 10)
    except OSError:
        return ""


def _place(root: int, path: str) -> Fd:
    """Open the mount point, behind one link of the root's own if there is one."""
    with paths.open_target(root, os.path.dirname(path)) as above:
        name = os.path.basename(path)
        try:
            info = os.lstat(name, dir_fd=above.fileno())
        except FileNotFoundError:
            info = None
        if info is not None and stat.S_ISLNK(info.st_mode):
            target = os.readlink(name, dir_fd=above.fileno())
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
            if any(hostview.is_below(path, own) for own in hostview.OWN):
                raise JailError(f"cannot mount on {path}", reason="a link of the root leads there")
    return paths.open_target(root, path, directory=False)
