"""The attacks of tests/escape in other programs' jails: ``escape.py [--json FILE] [NAME ...]``.

To be run as root. Each program gets the same Debian root, probe and shared directory, and is set
up as its manual has it for a program that is not trusted; the command lines are below. A case that
needs to know donjon's own shape is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE / "tests" / "support"), str(HERE / "tests" / "escape")]

import prison  # noqa: E402  (the path is set above)
import profiles  # noqa: E402
from cases import CASES, Case  # noqa: E402

UID = prison.OWNER
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """What the host has for all of them: a root, the probe, a shared directory, a secret."""

    top: Path
    root: str

    @property
    def app(self) -> Path:
        """The probe, to be seen read-only."""
        return self.top / "app"

    @property
    def shared(self) -> Path:
        """What the jail may write to."""
        return self.top / "shared"


Run = Callable[[Place, list[str]], str]


def output(command: list[str]) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        errors="replace",
    )
    if "{" not in done.stdout:
        raise OSError(f"{done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def bubblewrap(place: Place, command: list[str]) -> str:
    """As a user runs it, with everything unshared."""
    return output([
        *AS_USER, "bwrap", "--unshare-all", "--new-session", "--die-with-parent",
        "--hostname", "cell", "--clearenv", "--chdir", "/", "--ro-bind", place.root, "/",
        "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
        "--ro-bind", str(place.app), "/srv", "--bind", str(place.shared), "/mnt", *command,
    ])  # fmt: skip


def runc(place: Place, command: list[str]) -> str:
    """The configuration of ``runc spec`` with a uid, the two mounts, and limits."""
    bundle = Path(tempfile.mkdtemp(dir=place.top))
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=command, cwd="/")
    config["process"]["user"] = {"uid": UID, "gid": UID}
    config["root"] = {"path": place.root, "readonly": True}
    for inside, source, options in (
        ("/srv", str(place.app), ["bind", "ro"]),
        ("/mnt", str(place.shared), ["bind", "rw"]),
        ("/tmp", "tmpfs", ["nosuid", "nodev", "size=256m"]),
    ):
        kind = "tmpfs" if source == "tmpfs" else "bind"
        mount = {"destination": inside, "type": kind, "source": source, "options": options}
        config["mounts"].append(mount)
    limits = {"pids": {"limit": 100}, "memory": {"limit": 448 << 20}}
    config["linux"].setdefault("resources", {}).update(limits)
    (bundle / "config.json").write_text(json.dumps(config))
    return output(["runc", "run", "--bundle", str(bundle), f"donjon-{bundle.name}"])


def nspawn(place: Place, command: list[str]) -> str:
    """A read-only root without network, as a user that the root has."""
    return output([
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe",
        "--read-only", "--private-network", "--no-new-privileges=yes", "--user=customer",
        "--hostname=cell", "--timezone=off", "--resolv-conf=off",
        f"--directory={place.root}", f"--bind-ro={place.app}:/srv", f"--bind={place.shared}:/mnt",
        "--tmpfs=/tmp:mode=1777,size=256m", *command,
    ])  # fmt: skip


def homely() -> pwd.struct_passwd:
    """Return a user of this host that is not root and has a home: firejail wants one."""
    found = (one for one in pwd.getpwall() if one.pw_uid and one.pw_dir.startswith("/var/"))
    return next(one for one in found if Path(one.pw_dir).is_dir())


def firejail(place: Place, command: list[str]) -> str:
    """The default profile, which has a filter and no capabilities, and private places."""
    who = homely()
    inside = [word.replace("/srv/", f"{place.app}/") for word in command]
    return output([
        "setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups",
        "firejail", "--quiet", "--profile=default", "--private", "--private-dev", "--private-tmp",
        "--net=none", "--ipc-namespace", "--hostname=cell", f"--read-only={place.app}", *inside,
    ])  # fmt: skip


UWSGI = """[uwsgi]
unshare = fs
hook-post-jail = mount:none {root} {ns} bind
hook-post-jail = mount:none {shared} {ns}/mnt bind
hook-post-jail = mount:none {app} {ns}/srv bind
pivot_root = {ns} {ns}/opt
hook-as-root = mount:proc none /proc nodev hidepid=2
hook-as-root = mount:none /opt/dev /dev bind
hook-as-root = mount:none /opt/dev/pts /dev/pts bind
hook-as-root = umount:/opt rec,detach
hook-as-root = hostname:cell
uid = {uid}
gid = {uid}
exec-as-user = {command} > /mnt/out.new; mv /mnt/out.new /mnt/out
"""


def uwsgi(place: Place, command: list[str]) -> str:
    """An Emperor with namespaces, and the vassal of the manual's page on pivot_root."""
    top = Path(tempfile.mkdtemp(dir=place.top))
    vassals, out, ns = top / "vassals", place.shared / "out", top / "ns"
    vassals.mkdir()
    ns.mkdir()
    out.unlink(missing_ok=True)
    words = " ".join(command).replace("@", "\\@")
    text = UWSGI.format(
        root=place.root, ns=ns, shared=place.shared, app=place.app, uid=UID, command=words
    )
    (vassals / "cell.ini").write_text(text)
    with subprocess.Popen(
        ["uwsgi", "--emperor", str(vassals), "--emperor-use-clone", "fs,ipc,pid,uts,net"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(top / "log").open("wb"),
        start_new_session=True,
    ) as emperor:
        try:
            end = time.monotonic() + SECONDS
            while not out.exists() and time.monotonic() < end:
                select.select([], [], [], 0.05)
        finally:
            emperor.send_signal(signal.SIGTERM)
    if not out.exists():
        raise OSError((top / "log").read_text(errors="replace")[-300:])
    return out.read_text(errors="replace")


PEERS: dict[str, tuple[str, Run]] = {
    "bubblewrap": ("bwrap", bubblewrap),
    "runc": ("runc", runc),
    "systemd-nspawn": ("systemd-nspawn", nspawn),
    "firejail": ("firejail", firejail),
    "uWSGI": ("uwsgi", uwsgi),
}


class Cell:
    """A program's jail, asked as a vassal is."""

    root_inside = False

    def __init__(self, place: Place, name: str, run: Run, words: dict[str, str]) -> None:
        """Remember how it is run; firejail shows the host's own directories."""
        self.place, self.run = place, run
        self.words = dict(words)
        if name == "firejail":
            self.words.update(sockets=str(place.shared), uid=str(homely().pw_uid))

    def c(self, verb: str, *words: str) -> dict[str, str]:
        """What the C program found."""
        return dict(self._ask(["/srv/probe", verb, *words])["facts"])

    def py(self, name: str, *words: str) -> Any:
        """What the Python probe found."""
        answer = self._ask(["/usr/bin/python3", "/srv/app.py", name, *words])
        if "raised" in answer:
            raise OSError(answer["raised"])
        return answer["found"]

    def _ask(self, command: list[str]) -> dict[str, Any]:
        text = self.run(self.place, command)
        found: dict[str, Any] = json.loads(text[text.index("{") :].splitlines()[0])
        return found


def attack(case: Case, cell: Cell) -> str:
    """Return what got through, "" where nothing did, or why there is no answer."""
    try:
        return "; ".join(case.attack(cell))[:200]
    except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        return f"? {error}"[:300]


@contextlib.contextmanager
def furnished() -> Iterator[tuple[Place, dict[str, str]]]:
    """Make a place, with a process and sockets of the host's for the jails to look for."""
    top = Path(tempfile.mkdtemp(prefix="donjon-escape-", dir="/opt"))
    top.chmod(0o755)
    place = Place(top, profiles.copied_root("closure", "peers"))
    with subprocess.Popen(["sleep", "3600"]) as bystander, contextlib.ExitStack() as stack:
        try:
            place.shared.mkdir()
            place.shared.chmod(0o777)
            (top / "built").mkdir()
            prison.install(_HostLike(top), prison.build_probe(top / "built"))
            shutil.copy(place.app / "probe", place.shared / "setuid")
            (place.shared / "setuid").chmod(0o4755)
            (top / "secret").write_text("secret")
            (top / "secret").chmod(0o644)
            for name in ("stats", "control"):
                server = stack.enter_context(socket.socket(socket.AF_UNIX))
                server.bind(str(top / name))
                server.listen()
                (top / name).chmod(0o666)
            pid = str(bystander.pid)
            words = {"place": "/", "app": "/", "sockets": "/mnt", "secret": str(top / "secret")}
            words |= {"stats": str(top / "stats"), "control": str(top / "control")}
            words |= {
                "uid": str(UID),
                "emperor": pid,
                "neighbour": str(os.getpid()),
                "master": pid,
            }
            yield place, words
        finally:
            bystander.kill()
            shutil.rmtree(top)
            shutil.rmtree(place.root)


@dataclass(frozen=True, slots=True)
class _HostLike:
    """As much of a test's host as ``install`` needs."""

    place: Path


def main() -> int:
    """Attack, and print what got through."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(PEERS))
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--case", action="append", help="only these")
    arguments = parser.parse_args()
    results: dict[str, dict[str, str]] = {}
    with furnished() as (place, words):
        for name in arguments.names:
            program, run = PEERS[name]
            if shutil.which(program) is None:
                print(f"{name}: not installed (scripts/prepare bench does)")
                continue
            cell = Cell(place, name, run, words)
            wanted = [
                c for c in CASES if c.for_peers and (not arguments.case or c.id in arguments.case)
            ]
            results[name] = {case.id: attack(case, cell) for case in wanted}
            for case_id, through in results[name].items():
                print(f"{name:15} {case_id:13} {through or 'held'}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
