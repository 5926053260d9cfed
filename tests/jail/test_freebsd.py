"""FreeBSD's jails on Linux: layouts, bytes, errors, through a library that follows that kernel's rules."""

import ctypes
import errno
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from freebsd_kernel import text
from hypothesis import given
from hypothesis import strategies as st

from donjon.errors import JailError
from donjon.jail import freebsd as jails
from donjon.jail import freebsd_params as params
from donjon.jail import plan
from donjon.jail.freebsd_spec import JailParameter, OldJail
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, CgroupPath, Exec, JailSpec, WaitFor
from donjon.jail.step import Builtin, Context
from donjon.origin import Origin
from donjon.syscalls import freebsd as calls
from donjon.syscalls import freebsd_libc

HERE = Origin("/etc/vassals/web.ini", 3)
CREATE_ATTACH = calls.JAIL_CREATE | calls.JAIL_ATTACH


def number(value):
    return struct.pack("=i", value).hex()


def jail2(*words):
    return tuple(JailParameter(*params.split(word), HERE) for word in words)


def run(spec, phases=(Phase.POST_JAIL,)):
    plan.build(spec, root=True).run(Context(), phases)


# the layouts


def test_the_structs_are_those_of_the_c_compiler(freebsd):
    found = (ctypes.c_uint32 * 11)()
    ctypes.CDLL(str(freebsd.path)).fbj_layout(found)
    jail = freebsd_libc.Jail
    ours = [ctypes.sizeof(jail), *(getattr(jail, name).offset for name, *_ in jail._fields_)]
    vector = [ctypes.sizeof(freebsd_libc.IoVec), freebsd_libc.IoVec.iov_len.offset]
    assert ours + vector == list(found)


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="pointers of 8 bytes")
def test_the_layouts_of_amd64_and_arm64():
    offsets = [getattr(freebsd_libc.Jail, name).offset for name, *_ in freebsd_libc.Jail._fields_]
    assert offsets == [0, 8, 16, 24, 32, 36, 40, 48]
    assert ctypes.sizeof(freebsd_libc.Jail) == 56
    assert ctypes.sizeof(freebsd_libc.IoVec) == 16


def test_the_constants_are_those_of_sys_jail_h():
    flags = (calls.JAIL_CREATE, calls.JAIL_UPDATE, calls.JAIL_ATTACH, calls.JAIL_DYING)
    assert flags == (1, 2, 4, 8)
    assert calls.JAIL_API_VERSION == 2
    assert (calls.JAIL_SYS_DISABLE, calls.JAIL_SYS_NEW, calls.JAIL_SYS_INHERIT) == (0, 1, 2)


# the calls


def test_jail_passes_every_field(freebsd):
    four, six = params.address4("192.168.0.40"), params.address6("fd00::40")
    jid = freebsd.library.jail(b"/", b"foobar", b"web", [four, four], [six])
    assert jid == 1
    assert freebsd.calls() == [
        f"jail version=2 path=/ hostname=foobar jailname=web ip4={'c0a80028' * 2} ip6={six.hex()}"
    ]


def test_jail_without_name_and_addresses_passes_null(freebsd):
    freebsd.library.jail(b"/", b"", None)
    assert freebsd.calls() == ["jail version=2 path=/ hostname= jailname=NULL ip4= ip6="]


def test_jail_set_makes_pairs_and_asks_for_the_message(freebsd):
    pairs = params.pairs(jail2("path=/", "host.hostname=a", "allow.mount", "enforce_statfs=1"))
    assert freebsd.library.jail_set(pairs, CREATE_ATTACH) == 1
    assert freebsd.calls() == [
        f"jail_set flags=5 path={text('/')} host.hostname={text('a')} allow.mount= "
        f"enforce_statfs={number(1)} errmsg[1024]"
    ]


@pytest.mark.parametrize(
    ("pairs", "flags", "number", "message"),
    [
        ([(b"moon", None)], CREATE_ATTACH, errno.EINVAL, "unknown parameter: moon"),
        ([(b"vnet", None)], CREATE_ATTACH, errno.EINVAL, "vnet has the wrong size"),
        ([(b"path", b"/")], CREATE_ATTACH, errno.EINVAL, "path is not a string"),
        ([(b"ip4.addr", b"abc")], CREATE_ATTACH, errno.EINVAL, "wrong size"),
        ([(b"path", b"/no/such\0")], CREATE_ATTACH, errno.ENOENT, "No such file or directory"),
        ([(b"name", b"a\0")], calls.JAIL_UPDATE, errno.ENOENT, 'jail "a" not found'),
        ([(b"name", b"a\0")], calls.JAIL_CREATE, errno.EINVAL, "new jail must persist or attach"),
        ([(b"persist", None)], 0, errno.EINVAL, "Invalid argument"),
    ],
)
def test_what_the_kernel_says_is_the_reason(freebsd, pairs, flags, number, message):
    with pytest.raises(OSError, match=r".") as caught:
        freebsd.library.jail_set(pairs, flags)
    assert (caught.value.errno, caught.value.strerror) == (number, message)


def test_a_jail_is_found_updated_and_removed(freebsd):
    library = freebsd.library
    one = library.jail_set([(b"name", b"one\0"), (b"persist", None)], calls.JAIL_CREATE)
    two = library.jail_set([(b"name", b"two\0"), (b"persist", None)], calls.JAIL_CREATE)
    assert library.jail_get([(b"name", b"two\0")]) == (two, {})
    assert library.jail_get([(b"jid", struct.pack("=i", one))], {b"name": 256})[1] == {
        b"name": b"one" + bytes(253)
    }
    assert library.jail_get([(b"lastjid", struct.pack("=i", one))])[0] == two
    again = [(b"name", b"one\0"), (b"persist", None)]
    with pytest.raises(FileExistsError, match='jail "one" already exists'):
        library.jail_set(again, calls.JAIL_CREATE)
    assert library.jail_set(again, calls.JAIL_UPDATE) == one
    library.jail_remove(one)
    with pytest.raises(FileNotFoundError, match='jail "one" not found'):
        library.jail_get([(b"name", b"one\0")])
    with pytest.raises(OSError, match="Invalid argument"):
        library.jail_attach(one)


def test_inside_a_jail_no_further_one_can_be_made(freebsd):
    freebsd.library.jail(b"/", b"", None)
    with pytest.raises(PermissionError):
        freebsd.library.jail_set([(b"persist", None)], calls.JAIL_CREATE)


# parameters


@pytest.mark.parametrize(
    ("word", "name", "data"),
    [
        ("path=/jails/001", b"path", b"/jails/001\0"),
        ("host.hostname=foobar", b"host.hostname", b"foobar\0"),
        ("name=é", b"name", "é\0".encode()),
        ("ip4.addr=192.168.0.40", b"ip4.addr", bytes([192, 168, 0, 40])),
        ("ip4.addr=10.0.0.1, 10.0.0.2", b"ip4.addr", bytes([10, 0, 0, 1, 10, 0, 0, 2])),
        ("ip6.addr=::1", b"ip6.addr", bytes(15) + b"\1"),
        ("enforce_statfs=1", b"enforce_statfs", struct.pack("=i", 1)),
        ("securelevel=-1", b"securelevel", struct.pack("=i", -1)),
        ("host.hostid=7", b"host.hostid", struct.pack("@L", 7)),
        ("allow.mount", b"allow.mount", None),
        ("allow.sysvipc=1", b"allow.sysvipc", None),
        ("allow.mount.devfs=0", b"allow.mount.nodevfs", None),
        ("allow.nomount=false", b"allow.mount", None),
        ("persist=no", b"nopersist", None),
        ("nopersist", b"nopersist", None),
        ("ip4.saddrsel=0", b"ip4.nosaddrsel", None),
        ("vnet", b"vnet", struct.pack("=i", 1)),
        ("ip4=inherit", b"ip4", struct.pack("=i", 2)),
        ("ip6=disable", b"ip6", struct.pack("=i", 0)),
        ("mac.level=3", b"mac.level", struct.pack("=i", 3)),
        ("mac.label=low", b"mac.label", b"low\0"),
        ("mac.strict", b"mac.strict", None),
    ],
)
def test_fbj_03_04_a_parameter_has_the_bytes_of_its_kind(word, name, data):
    assert params.encode(*params.split(word)) == (name, data)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "not KEY or KEY=VALUE"),
        ("=x", "not KEY or KEY=VALUE"),
        ("a b=x", "not KEY or KEY=VALUE"),
        ("path", "path needs a value: text"),
        ("ip4.addr=300.1.1.1", "'300.1.1.1' is not an address"),
        ("ip4.addr=0.0.0.0", "0.0.0.0 is not an address of one host"),
        ("ip4.addr=em0|10.0.0.1/24", "'em0|10.0.0.1/24' is not an address; interface and netmask are set by ifconfig(8)"),
        ("ip6.addr=10.0.0.1", "'10.0.0.1' is not an address"),
        ("enforce_statfs=much", "'much' is not a number of 32 bits"),
        ("jid=4294967296", "'4294967296' is not a number of 32 bits"),
        ("host.hostid=-1", "'-1' is not a number of 64 bits without a sign"),
        ("allow.mount=maybe", "allow.mount is a flag: nothing, 1 or 0"),
        ("vnet=on", "'on' is not new, inherit or disable"),
        ("mount.devfs", "mount.devfs is for jail(8), not for the kernel; exec-pre-jail and exec-post-jail run commands"),
        ("exec.start=/bin/sh", "exec.start is for jail(8), not for the kernel; exec-pre-jail and exec-post-jail run commands"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused(word, reason):
    with pytest.raises(ValueError, match=r".") as caught:
        params.split(word)
    assert str(caught.value) == reason


def test_of_equal_names_addresses_are_joined_and_of_others_the_last_counts():
    words = (
        "ip4.addr=10.0.0.1",
        "name=a",
        "allow.mount",
        "ip4.addr=10.0.0.2",
        "name=b",
        "allow.mount=0",
    )
    assert dict(params.pairs(jail2(*words))) == {
        b"ip4.addr": bytes([10, 0, 0, 1, 10, 0, 0, 2]),
        b"name": b"b\0",
        b"allow.nomount": None,
    }


@given(st.text(max_size=40))
def test_any_text_is_a_parameter_or_a_reason(text):
    try:
        key, value = params.split(text)
    except ValueError:
        return
    name, _data = params.encode(key, value)
    assert b"\0" not in name


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=20))
def test_addresses_are_in_network_byte_order(addresses):
    hosts = [each for each in addresses if not each.is_unspecified and int(each) != 0xFFFFFFFF]
    shown = ",".join(map(str, hosts))
    if hosts:
        assert params.encode("ip4.addr", shown)[1] == b"".join(each.packed for each in hosts)


# steps


def test_an_old_jail_is_made_before_the_post_jail_hooks(freebsd, tmp_path):
    spec = JailSpec(jail=OldJail(str(tmp_path), "foobar", "web"), jail_ip4=("10.0.0.1",))
    made = plan.build(spec, root=True)
    assert [step.phase for step in made.steps] == [Phase.POST_JAIL]
    assert made.steps[0].describe() == (
        f"make and enter a jail named web in {tmp_path}, host name foobar, addresses 10.0.0.1"
    )
    made.run(Context(), [Phase.POST_JAIL])
    assert freebsd.calls() == [
        f"jail version=2 path={tmp_path} hostname=foobar jailname=web ip4=0a000001 ip6="
    ]


def test_fbj_09_the_jidfile_has_the_number(freebsd, tmp_path):
    jidfile = tmp_path / "web.jid"
    jidfile.write_text("an older and longer content\n")
    run(JailSpec(jail_parameters=jail2("path=/"), jidfile=str(jidfile)))
    assert jidfile.read_text() == "1\n"


@pytest.mark.parametrize("name", ["web", "1"])
def test_fbj_10_a_jail_is_entered_by_name_or_number(freebsd, tmp_path, name):
    freebsd.library.jail_set([(b"name", b"web\0"), (b"persist", None)], calls.JAIL_CREATE)
    jidfile = tmp_path / "jid"
    run(JailSpec(jail_attach=name, jidfile=str(jidfile)))
    given = f"name={text('web')}" if name == "web" else f"jid={number(1)}"
    assert freebsd.calls()[1:] == [f"jail_get flags=0 {given} errmsg[1024]", "jail_attach jid=1"]
    assert jidfile.read_text() == "1\n"


@pytest.mark.parametrize(
    ("spec", "call", "line"),
    [
        (JailSpec(jail=OldJail("/")), "jail", "make and enter a jail in /, its jid to {jidfile}"),
        (
            JailSpec(jail_parameters=jail2("path=/", "persist")),
            "jail_set",
            "make and enter a jail with path=/ persist, its jid to {jidfile}",
        ),
        (JailSpec(jail_attach="1"), "jail_get", "enter the jail 1, its jid to {jidfile}"),
        (JailSpec(jail_attach="1"), "jail_attach", "enter the jail 1, its jid to {jidfile}"),
    ],
)
def test_a_call_that_fails_is_one_line_and_leaves_no_jidfile(
    freebsd, tmp_path, monkeypatch, spec, call, line
):
    freebsd.library.jail_set([(b"persist", None)], calls.JAIL_CREATE)
    monkeypatch.setenv("FBJ_FAIL", f"{call}:{errno.EPERM}")
    jidfile = tmp_path / "jid"
    fields = {name: getattr(spec, name) for name in ("jail", "jail_parameters", "jail_attach")}
    places = {"jail": HERE, "jail_attach": HERE}
    with pytest.raises(JailError) as caught:
        run(JailSpec(**fields, jidfile=str(jidfile), origins=places))
    what = line.format(jidfile=jidfile)
    assert str(caught.value) == f"/etc/vassals/web.ini:3: cannot {what}: Operation not permitted"
    assert not jidfile.exists()


def test_the_kernels_own_words_are_in_the_line(freebsd):
    parameters = jail2("path=/", "moon=1")
    with pytest.raises(JailError) as caught:
        run(JailSpec(jail_parameters=parameters))
    assert str(caught.value) == (
        "/etc/vassals/web.ini:3: cannot make and enter a jail with path=/ moon=1: "
        "unknown parameter: moon"
    )


def test_a_jidfile_that_is_a_link_is_refused_before_the_jail_is_made(freebsd, tmp_path):
    (tmp_path / "jid").symlink_to("/etc/passwd")
    spec = JailSpec(jail=OldJail("/"), jidfile=str(tmp_path / "jid"), origins={"jail": HERE})
    with pytest.raises(JailError) as caught:
        run(spec)
    assert str(caught.value) == (
        f"/etc/vassals/web.ini:3: cannot write jidfile {tmp_path}/jid: {os.strerror(errno.ELOOP)}"
    )
    assert freebsd.calls() == []


def test_steps_can_be_sent_to_another_process(freebsd):
    spec = JailSpec(jail_parameters=jail2("path=/", "ip4.addr=10.0.0.1"), jidfile="/x")
    made = plan.build(spec, root=True)
    assert pickle.loads(pickle.dumps(made)) == made


# the plan on FreeBSD


class Named(Builtin):
    def describe(self):
        return "a hook"

    def execute(self, context):
        raise AssertionError


def test_the_plan_has_the_phases_that_freebsd_has(freebsd):
    spec = JailSpec(
        jail_parameters=jail2("path=/"),
        chroot="/x",
        wait_for=(WaitFor("socket", "/s"), WaitFor("dir", "/d"), WaitFor("file", "/f")),
        uid="65534",
        max_fd=100,
        prio=3,
        limit_as=1 << 30,
        limit_nproc=10,
        unprivileged_exec=Exec("/bin/true"),
    )
    hooks = [Named(phase=phase) for phase in (Phase.AS_USER, Phase.POST_JAIL, Phase.PRE_JAIL)]
    made = plan.build(spec, hooks, root=True)
    assert [(step.phase.value, type(step).__name__) for step in made.steps] == [
        ("pre-jail", "Named"),
        ("post-jail", "CreateJail"),
        ("post-jail", "Named"),
        ("root", "Chroot"),
        ("as-root", "Gate"),
        ("as-root", "Gate"),
        ("drop", "Limit"),
        ("drop", "Priority"),
        ("drop", "Become"),
        ("as-user", "Named"),
        ("as-user", "Execute"),
        ("limits", "Gate"),
        ("limits", "Limit"),
        ("limits", "Limit"),
    ]


def test_a_reload_does_not_make_the_jail_again(freebsd):
    spec = JailSpec(jail_parameters=jail2("path=/"))
    assert plan.build(spec, root=True, reload=True).steps == ()


def test_without_root_there_is_no_jail(freebsd):
    spec = JailSpec(jail=OldJail("/"), origins={"jail": HERE})
    with pytest.raises(JailError, match=r"web\.ini:3: jail needs root: this process has uid"):
        plan.build(spec, root=False)
    hooks = [Named(phase=phase) for phase in (Phase.AS_ROOT, Phase.PRE_JAIL)]
    made = plan.build(JailSpec(), hooks, root=False)
    assert [step.phase for step in made.steps] == [Phase.PRE_JAIL]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            JailSpec(jail=OldJail("/"), jail_attach="1"),
            "jail and jail-attach cannot both be the jail (jail2 alone can say all that jail says)",
        ),
        (JailSpec(jail_ip4=("10.0.0.1",)), "jail-ip4 needs jail (with jail2: jail2 = ip4.addr=ADDRESS)"),
        (JailSpec(jail_ip6=("::1",)), "jail-ip6 needs jail (with jail2: jail2 = ip6.addr=ADDRESS)"),
        (JailSpec(jidfile="/x"), "jidfile needs jail, jail2 or jail-attach"),
        (JailSpec(jail=OldJail("/no/such")), "the jail's root /no/such is not a directory"),
        (
            JailSpec(jail_parameters=jail2("path=/no/such")),
            "/etc/vassals/web.ini:3: the jail's root /no/such is not a directory",
        ),
        (JailSpec(rootfs="host"), "rootfs needs Linux: this is FreeBSD (here: jail2 = path=DIR)"),
        (JailSpec(hostname="a"), "hostname needs Linux: this is FreeBSD (here: jail2 = host.hostname=NAME)"),
        (JailSpec(cgroups=(CgroupPath("/x"),)), "cgroup needs Linux: this is FreeBSD"),
        (JailSpec(binds=(Bind("/a", "/b"),)), "bind needs Linux: this is FreeBSD"),
        (JailSpec(wait_for=(WaitFor("mountpoint", "/x"),)), "wait-for-mountpoint needs Linux: this is FreeBSD"),
        (JailSpec(uid="nobody-here"), "unknown user 'nobody-here': no such name on this host"),
    ],
)  # fmt: skip
def test_what_cannot_be_on_freebsd_is_refused(freebsd, spec, message):
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True)
    assert str(caught.value).removeprefix("default: ") == message


def test_a_hook_may_make_the_root(freebsd):
    spec = JailSpec(jail=OldJail("/no/such"))
    assert len(plan.build(spec, [Named(phase=Phase.PRE_JAIL)], root=True).steps) == 2


@pytest.mark.root
def test_ids_are_dropped_after_the_jail_was_entered(freebsd, tmp_path, jail):
    root = tmp_path / "root"
    root.mkdir()
    spec = JailSpec(jail_parameters=jail2(f"path={root}"), uid="65534", gid="65534")
    told = jail.tell(spec, lambda: (os.getresuid(), os.getgroups()))
    assert told.error == ""
    assert told.value == ((65534,) * 3, [65534])
    assert len(freebsd.calls()) == 1


# on Linux


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (JailSpec(jail=OldJail("/")), "jail needs FreeBSD: this is Linux (here: rootfs = DIR and hostname = NAME)"),
        (
            JailSpec(jail_parameters=jail2("host.hostname=a", "path=/")),
            "/etc/vassals/web.ini:3: jail2 = host.hostname needs FreeBSD: this is Linux (here: hostname = NAME)",
        ),
        (
            JailSpec(jail_parameters=jail2("allow.mount")),
            "/etc/vassals/web.ini:3: jail2 = allow.mount needs FreeBSD: this is Linux (here: cap = NAMES)",
        ),
        (
            JailSpec(jail_ip4=("10.0.0.1",)),
            "jail-ip4 needs FreeBSD: this is Linux (here: unshare = net, and addresses of the new network)",
        ),
        (JailSpec(jail_attach="web"), "jail-attach needs FreeBSD: this is Linux (here: setns = SOCKET)"),
        (JailSpec(jidfile="/x"), "jidfile needs FreeBSD: this is Linux (here: pidfile = FILE)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", [True, False])
def test_on_linux_an_option_names_its_equivalent(spec, message, root):
    assert not jails.is_here()
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=root)
    assert str(caught.value).removeprefix("default: ") == message


def test_a_step_without_a_kernel_for_it_says_so():
    step = jails.CreateOldJail(phase=Phase.POST_JAIL, jail=OldJail("/"))
    with pytest.raises(
        JailError, match="cannot make and enter a jail in /: this system has no jails"
    ):
        step.execute(Context())


def test_the_check_for_a_real_freebsd_goes_through(freebsd):
    check = Path(__file__).parents[2] / "vm-tests" / "freebsd" / "check.py"
    command = [sys.executable, check, "--library", freebsd.path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 13
    assert [line for line in lines if not line.startswith("ok: ")] == []
