"""Configurations of the page on FreeBSD jails, as written, up to the calls that FreeBSD's kernel would get.

User names and roots are this machine's; the ids in the names are those of the specification's inventory.
"""

import os
import struct
from pathlib import Path

import pytest
from freebsd_kernel import Kernel, text

from donjon import cli
from donjon.config import launch as launches
from donjon.config.entry import Entry
from donjon.config.evaluate import evaluate
from donjon.config.outline import Outline, outline
from donjon.config.world import Facts, OpenWorld
from donjon.errors import ConfigError, JailError
from donjon.jail.phase import ORDER, Phase
from donjon.jail.step import Context
from donjon.origin import Origin

ADDRESS = bytes([192, 168, 0, 40]).hex()
COMMON = """
; bind the http-socket (we are now in the jail)
http-socket = 192.168.0.40:8080
; load the application (remember we are in the jail)
wsgi-file = myapp.wsgi
; drop privileges
uid = kratos
gid = kratos
; common options
master = true
processes = 2
"""
ALIAS = """
; create the alias on 'em0'
exec-pre-jail = ifconfig em0 192.168.0.40 alias
"""
NEW_STYLE = f"""[uwsgi]
; create the jail with /jails/001 as rootfs
jail2 = path=/jails/001
; set hostname to 'foobar'
jail2 = host.hostname=foobar
{ALIAS}
; attach the alias to the jail
jail2 = ip4.addr=192.168.0.40
"""
OLD_STYLE = f"""[uwsgi]
; create the jail with /jails/001 as rootfs and 'foobar' as hostname
jail = /jails/001 foobar
{ALIAS}
; attach the alias to the jail
jail-ip4 = 192.168.0.40
"""
DEVFS_BEFORE = """[uwsgi]
; avoid re-mounting the file system every time
if-not-exists = /jails/001/dev/zero
exec-pre-jail = mount -t devfs devfs /jails/001/dev
endif =
"""
DEVFS_INSIDE = """
; allows mount of devfs in the jail
jail2 = enforce_statfs=1
jail2 = allow.mount
jail2 = allow.mount.devfs
; ... and mount it
if-not-exists = /dev/zero
exec-post-jail = mount -t devfs devfs /dev
endif =
"""
pytestmark = pytest.mark.root


class Machine:
    """A FreeBSD host on which nobody is root of a real jail: a root directory and recorded commands."""

    def __init__(self, kernel: Kernel, place: Path) -> None:
        self.kernel = kernel
        self.place = place
        self.root = place / "jails" / "001"
        (self.root / "dev").mkdir(parents=True)
        self.path = f"{kernel.commands('ifconfig', 'mount')}:{os.environ['PATH']}"

    def here(self, configuration: str) -> str:
        """Return a configuration with this machine's names; its /dev/zero is not there."""
        guard = f"if-not-exists = {self.place}/dev/zero"
        local = configuration.replace("if-not-exists = /dev/zero", guard)
        return local.replace("/jails/001", str(self.root)).replace("kratos", "www-data")

    def understand(self, *argv: str) -> Outline:
        world = OpenWorld(facts=Facts(cwd=str(self.place)), environ={})
        entries = evaluate(argv, environ={}, world=world).entries
        return outline(launches.build(entries), root=True)

    def start(self, configuration: str) -> list[str]:
        """Go through the start as far as the jail goes; return calls and commands in their order."""
        file = self.place / "web.ini"
        file.write_text(self.here(configuration))
        return self.run(self.understand("--ini", str(file)))

    def run(self, made: Outline) -> list[str]:
        phases = [phase for phase in Phase if ORDER[phase] <= ORDER[Phase.AS_USER]]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.environ["PATH"] = self.path
                made.plan.run(Context(), phases)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return self.kernel.calls()

    def jail_set(self, *pairs: str) -> str:
        return f"jail_set flags=5 {' '.join(pairs)} errmsg[1024]"


@pytest.fixture
def machine(freebsd, tmp_path) -> Machine:
    return Machine(freebsd, tmp_path)


def number(value: int) -> str:
    return struct.pack("=i", value).hex()


def test_b091_fbj_01_02_an_old_style_jail(machine):
    assert machine.start(OLD_STYLE + COMMON) == [
        "ifconfig em0 192.168.0.40 alias",
        f"jail version=2 path={machine.root} hostname=foobar jailname=NULL ip4={ADDRESS} ip6=",
    ]


def test_b091_the_plan_says_who_asked(machine):
    file = machine.place / "web.ini"
    file.write_text(machine.here(OLD_STYLE + COMMON))
    assert machine.understand("--ini", str(file)).plan.describe()[:2] == [
        f"pre-jail: exec: ifconfig em0 192.168.0.40 alias [{file}:6: exec-pre-jail]",
        f"post-jail: make and enter a jail in {machine.root}, host name foobar, "
        f"addresses 192.168.0.40 [{file}:3: jail]",
    ]


def test_b092_fbj_04_a_new_style_jail(machine):
    assert machine.start(NEW_STYLE + COMMON) == [
        "ifconfig em0 192.168.0.40 alias",
        machine.jail_set(
            f"path={text(str(machine.root))}",
            f"host.hostname={text('foobar')}",
            f"ip4.addr={ADDRESS}",
        ),
    ]


def test_b092_libjail_is_another_name_of_jail2(machine):
    libjail = NEW_STYLE.replace("jail2", "libjail") + COMMON
    assert machine.start(libjail)[1].startswith("jail_set flags=5 path=")


def test_b093_fbj_05_sysvipc(machine):
    assert machine.start(NEW_STYLE + "jail2 = allow.sysvipc=1\n" + COMMON)[1] == machine.jail_set(
        f"path={text(str(machine.root))}",
        f"host.hostname={text('foobar')}",
        f"ip4.addr={ADDRESS}",
        "allow.sysvipc=",
    )


def test_b094_fbj_06_devfs_mounted_before_the_jail(machine):
    configuration = DEVFS_BEFORE + NEW_STYLE.removeprefix("[uwsgi]") + COMMON
    calls = machine.start(configuration)
    assert calls[:2] == [
        f"mount -t devfs devfs {machine.root}/dev",
        "ifconfig em0 192.168.0.40 alias",
    ]
    assert calls[2].startswith("jail_set flags=5 path=")


def test_b094_devfs_is_not_mounted_a_second_time(machine):
    (machine.root / "dev" / "zero").touch()
    configuration = DEVFS_BEFORE + NEW_STYLE.removeprefix("[uwsgi]") + COMMON
    assert machine.start(configuration)[0] == "ifconfig em0 192.168.0.40 alias"


def test_b095_fbj_03_07_devfs_mounted_inside_the_jail(machine):
    assert machine.start(NEW_STYLE + DEVFS_INSIDE + COMMON) == [
        "ifconfig em0 192.168.0.40 alias",
        machine.jail_set(
            f"path={text(str(machine.root))}",
            f"host.hostname={text('foobar')}",
            f"ip4.addr={ADDRESS}",
            f"enforce_statfs={number(1)}",
            "allow.mount=",
            "allow.mount.devfs=",
        ),
        "mount -t devfs devfs /dev",
    ]


def test_b096_fbj_14_debian_kfreebsd(machine):
    made = machine.understand(
        *("--http-socket", "192.168.173.105:8080"),
        *("--jail", str(machine.root), "--jail-ip4", "192.168.173.105"),
    )
    address = bytes([192, 168, 173, 105]).hex()
    assert machine.run(made) == [
        f"jail version=2 path={machine.root} hostname= jailname=NULL ip4={address} ip6="
    ]


def test_fbj_09_10_a_jidfile_and_an_attached_instance(machine):
    jidfile = machine.place / "jid"
    machine.kernel.library.jail_set([(b"name", b"web\0"), (b"persist", None)], 1)
    text_of = f"[uwsgi]\njail-attach = web\njidfile = {jidfile}\n" + COMMON
    calls = machine.start(text_of)
    assert calls[1:] == [f"jail_get flags=0 name={text('web')} errmsg[1024]", "jail_attach jid=1"]
    assert jidfile.read_text() == "1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "jail2 = ip4.addr=em0",
            "cannot use jail2 = ip4.addr=em0: 'em0' is not an address "
            "(for example jail2 = path=/jails/001)",
        ),
        (
            "jail = jails/001",
            "cannot use jail = jails/001: not an absolute path "
            "(for example jail = /jails/001 foobar)",
        ),
        (
            "jail-ip6 = 10.0.0.1",
            "cannot use jail-ip6 = 10.0.0.1: '10.0.0.1' is not an address "
            "(for example jail-ip6 = fd00::40)",
        ),
        (
            "jail-attach =",
            "cannot use jail-attach = : a value is missing (for example jail-attach = web1)",
        ),
    ],
)
def test_a_value_that_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.ini").write_text(f"[uwsgi]\n{line}\n")
    assert cli.main(["check", "web.ini"]) == 1
    assert capsys.readouterr().out.splitlines() == [f"web.ini:2: error: {message}"]


@pytest.mark.parametrize(
    "line", ["jail = /", "jail2 = path=/", "jail-attach = web", "jidfile = /x"]
)
def test_a_customer_may_not_choose_his_jail(line):
    key, _, value = line.partition(" = ")
    entry = Entry(key, value, Origin("/srv/bob/web.ini", 4, key))
    with pytest.raises(ConfigError) as caught:
        launches.build([entry], customer=True)
    assert str(caught.value) == (
        f"/srv/bob/web.ini:4: {key} is for the operator only (it cannot stand in a customer's file)"
    )


def test_on_linux_the_page_is_refused_with_the_line(tmp_path):
    file = tmp_path / "web.ini"
    file.write_text(OLD_STYLE.replace("/jails/001", str(tmp_path)) + "uid = www-data\n")
    entries = evaluate(
        ("--ini", str(file)), environ={}, world=OpenWorld(facts=Facts(cwd="/"), environ={})
    ).entries
    with pytest.raises(JailError) as caught:
        outline(launches.build(entries), root=True)
    assert str(caught.value) == (
        f"{file}:3: jail: jail needs FreeBSD: this is Linux (here: rootfs = DIR and hostname = NAME)"
    )
