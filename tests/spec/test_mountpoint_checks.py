"""``mountpoint-check`` (FSE): an instance whose file system is gone or hangs is destroyed and made anew."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import hosting
import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs /dev/fuse"),
]
SERVER = Path(__file__).parents[1] / "support" / "little_fuse.py"


@pytest.fixture
def shop(host):
    """A vassal that mounts its own FUSE file system, as the tutorial's do."""
    app = host.place / "fuse"
    app.mkdir()
    up = host.place / "sockets" / "up"
    mount = (
        f"rm -f {up}; {sys.executable} {SERVER} {app} > {up} 2>&1 & "
        f"until grep -qs up {up}; do sleep 0.02; done"
    )
    host.vassal("shop", f"hook-as-root = exec:{mount}\nmountpoint-check = {app}\n")
    host.start("emperor-use-clone = fs,pid\n")
    host.answer("shop")
    return app


def servers(master: int) -> list[int]:
    return [
        pid
        for pid in hosting.descendants(master)
        if b"little_fuse" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def mounted(pid: int, app: Path) -> bool:
    return f" {app} " in Path(f"/proc/{pid}/mountinfo").read_text()


@pytest.mark.parametrize("how", ["hangs", "dies", "is unmounted"])
def test_fse_01_02_and_03_the_instance_is_destroyed_and_made_anew(host, shop, how):
    first = host.master("shop")
    (server,) = servers(first)
    everybody = [first, *hosting.descendants(first)]
    assert mounted(first, shop)
    if how == "hangs":
        os.kill(server, signal.SIGSTOP)
    elif how == "dies":
        os.kill(server, signal.SIGKILL)
    else:
        command = ["nsenter", f"--mount=/proc/{first}/ns/mnt", "umount", "-l", str(shop)]
        subprocess.run(command, check=True)
    hosting.wait_for(lambda: not any(map(hosting.alive, everybody)), "the end of everybody", 30)
    second = hosting.wait_for(lambda: max(host.master("shop"), 0), "the next one", 30)
    host.answer("shop")
    assert second != first
    assert mounted(host.master("shop"), shop)
    assert servers(host.master("shop")) != [server]
    reasons = {
        "hangs": "it does not answer within 5 seconds",
        "dies": ("Transport endpoint is not connected", "Software caused connection abort"),
        "is unmounted": "another file system is there",
    }[how]
    found = [reasons] if isinstance(reasons, str) else reasons
    assert any(f"*** {shop}: {why}: the instance is destroyed ***" in host.log() for why in found)
    assert f" {shop} " not in Path("/proc/self/mountinfo").read_text()


def test_fse_07_the_root_itself_can_be_checked_and_an_orderly_end_is_quick(host):
    host.vassal("shop", "mountpoint-check = /\n")
    host.start()
    host.answer("shop")
    master = host.master("shop")
    hosting.pause(1.5)
    assert host.master("shop") == master
    host.close_emperor()
    assert "destroyed" not in host.log()
    assert not hosting.alive(master)


def test_a_sentinel_that_is_killed_is_noticed(host):
    host.vassal("shop", "mountpoint-check = /\n")
    host.start()
    host.answer("shop")
    master = host.master("shop")
    sentinel = hosting.wait_for(
        lambda: [pid for pid in hosting.children(master) if _has_no_socket(pid)], "the sentinel"
    )[0]
    os.kill(sentinel, signal.SIGKILL)
    hosting.wait_for(lambda: not hosting.alive(master), "the end")
    assert "mountpoint-check: its sentinel died: the instance is destroyed" in host.log()


def _has_no_socket(pid: int) -> bool:
    """The sentinel holds its pipe and the standard descriptors; workers hold sockets."""
    links = hosting.held(pid).values()
    return bool(links) and not any(link.startswith("socket:") for link in links)
