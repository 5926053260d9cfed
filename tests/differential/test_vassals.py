"""The same vassal files under the original's Emperor and under ours: what /proc and sockets show is the same.

What differs on purpose (no_new_privs and an emptied bounding set for jailed vassals) is not compared, and is
named in docs/migrating.md.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hosting
import pytest

pytestmark = [pytest.mark.root, pytest.mark.uwsgi, pytest.mark.slow]

CASES: dict[str, tuple[str, str]] = {
    # name: (the Emperor's lines, the vassal's lines)
    "a user and a group": ("", "uid = 33\ngid = 33\n"),
    "names and an additional group": ("", "uid = www-data\ngid = www-data\nadd-gid = 4\n"),
    "a capability": ("", "uid = 33\ngid = 33\ncap = net_bind_service,sys_time\n"),
    "a host name of its own": (
        "",
        "uid = 33\ngid = 33\nunshare = uts,ipc\nhook-post-jail = hostname:cell\n",
    ),
    "born in namespaces": (
        "emperor-use-clone = fs,ipc,pid,uts\n",
        "exec-as-root = hostname foobar\nexec-as-root = umount /proc\n"
        "exec-as-root = mount -t proc none /proc\nuid = 33\ngid = 33\n",
    ),
    "a network of its own": ("emperor-use-clone = net\n", "uid = 33\ngid = 33\n"),
    "a bounding set": ("emperor-cap = setuid,setgid,net_bind_service\n", "uid = 33\ngid = 33\n"),
    "two workers": ("", "uid = 33\ngid = 33\nprocesses = 2\n"),
    "a changed directory": ("", "uid = 33\ngid = 33\nchdir2 = /usr\n"),
}


def observe(host: hosting.Host) -> dict[str, Any]:
    """What an administrator can see of the vassal ``shop``."""
    facts = host.answer("shop")
    master = host.master("shop")
    workers = hosting.wait_for(lambda: hosting.children(master), "workers")
    status = hosting.status(workers[0])
    sock = host.sock("shop").stat()
    return {
        **{key: status[key] for key in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh")},
        "namespaces": hosting.own_namespaces(workers[0]),
        "workers": len(workers),
        "master": {key: hosting.status(master)[key] for key in ("Uid", "CapEff")},
        "socket": (oct(sock.st_mode), sock.st_uid, sock.st_gid),
        "hostname": facts["hostname"],
        "groups": facts["groups"],
        "cwd": facts["cwd"].replace(str(host.place), ""),
        "command line": Path(f"/proc/{master}/cmdline").read_bytes().split(b"\0")[1:],
    }


@pytest.fixture
def host() -> Iterator[Callable[..., hosting.Host]]:
    """Start an Emperor of the program given, with one vassal; end it after the test."""
    made: list[hosting.Host] = []

    def make(program: list[str], extra: str, case: tuple[str, str]) -> hosting.Host:
        one = hosting.Host(Path(f"/tmp/donjon-diff-{os.getpid()}-{len(made)}"))
        made.append(one)
        one.vassal("shop", extra + case[1])
        one.start(case[0], program)
        return one

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("name", CASES)
def test_the_same_file_gives_the_same_process(name, host):
    theirs = observe(host(["uwsgi"], "plugins = python3\n", CASES[name]))
    ours = observe(host(hosting.DONJON, "", CASES[name]))
    assert ours == theirs


def test_the_statistics_have_the_keys_and_types_of_the_original(host):
    theirs = host(["uwsgi"], "plugins = python3\n", CASES["a user and a group"])
    ours = host(hosting.DONJON, "", CASES["a user and a group"])
    for one in (theirs, ours):
        one.answer("shop")
    for their, our in (
        (theirs.stats(), ours.stats()),
        (theirs.stats()["vassals"][0], ours.stats()["vassals"][0]),
    ):
        kinds = {key: type(value) for key, value in their.items()}
        assert {key: type(our.get(key)) for key in kinds} == kinds
