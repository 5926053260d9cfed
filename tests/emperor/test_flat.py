"""Which orders are written flat, and what stands in them."""

import dataclasses
import os
import pickle
import resource
import socket
import struct

import headers
import pytest

from donjon.config.outline import outline
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor import flat
from donjon.emperor.birth import AFTER_DROP, SOCKETS, Birth
from donjon.emperor.orders import DIRECT_LIMIT, Order
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec
from donjon.origin import Origin
from donjon.server import board
from donjon.server.spec import Application, Daemon, Listener, ServerSpec, TouchHook

PLACE = Origin("a.ini", 2, "option")
ROLES = ("control", "launch", "error", "log")
HTTP = Listener("/run/a.sock", "http", PLACE)
FILE = Application("wsgi-file", "app.py", origin=PLACE)


def order(jail=None, server=None, birth=None, launch=None, **words):
    """A plain order, but for what is named."""
    spec = ServerSpec(
        **{"listeners": (HTTP,), "applications": (FILE,), "master": True, **(server or {})}
    )
    one = Launch(
        **{
            "server": spec,
            "jail": JailSpec(
                **{"uid": None if "immediate_uid" in (jail or {}) else "20001", **(jail or {})}
            ),
            **(launch or {}),
        }
    )
    born = Birth(
        **{
            "name": "a.ini", "launch": one, "argv": ("donjon", "--ini", "a.ini"),
            "outline": outline(one, root=True, born_in=one.jail.clone_flags), "shares_environment": True, **(birth or {}),
        }
    )  # fmt: skip
    return Order(
        **{"number": 3, "emperor_pid": 77, "roles": ROLES, "cwd": "/srv", "birth": born, **words}
    )


def read(packet):
    """The head of a packet and its acts: (kind, resume, payload)."""
    head = flat.HEAD.unpack_from(packet)
    at, acts = flat.HEAD.size, []
    while at < len(packet):
        kind, resume, size = flat.ACT.unpack_from(packet, at)
        at += flat.ACT.size
        acts.append((kind, resume, packet[at : at + size]))
        end = at + size + -size % 8
        assert not any(packet[at + size : end]), "padding is zero"
        at = end
    assert at == len(packet)
    return head, acts


ACTS = headers.enumerated(headers.text("acts.h"), "act_kind")


# -- what is plain


HOOK = Hook(Phase.PRE_APP, Kind.HOOK, "print:x", PLACE)
PLAIN = {
    "nothing": {},
    "uid": {"jail": {"uid": "20001"}},
    "groups": {"jail": {"uid": "20001", "add_gids": ("5", "6")}},
    "cap": {"jail": {"uid": "20001", "cap": frozenset({10})}},
    "limits": {"jail": {"max_fd": 100, "limit_nproc": 9, "limit_as": 1 << 30}},
    "prio": {"jail": {"prio": -3}},
    "hostname": {"jail": {"clone_flags": frozenset({"uts"}), "hostname": "a"}},
    "workers": {"server": {"processes": 64, "threads": 4}},
    "module": {"server": {"applications": (Application("module", "app"),)}},
    "no application": {"server": {"applications": ()}},
    "env": {"server": {"environment": (("A", "1"),), "chdir": "/", "chdir2": "/tmp"}},
    "reload": {"server": {"max_requests": 5, "exit_on_reload": True, "die_on_term": True}},
    "abstract": {"server": {"listeners": (Listener("@name", "http"),)}},
    "v4": {"server": {"listeners": (Listener(":80", "http"),)}},
    "v6": {"server": {"listeners": (Listener("[::1]:80", "http11"), HTTP)}},
    "tyrant": {"uid": 5, "gid": 6},
    "user namespace": {"roles": (*ROLES, "go"), "clone_flags": 0x10000000},
    "cgroups": {"roles": (*ROLES, "cgroup", "tasks", "tasks")},
}
NOT_PLAIN = {
    "command": {"command": ("x",)},
    "evaluate": {"evaluate": {}},
    "start hook": {"start_hook": "x"},
    "as-vassal": {"hooks": (HOOK,)},
    "no birth": {"birth": None},
    "role": {"roles": (*ROLES, "stdin")},
    "many roles": {"roles": (*ROLES, *["tasks"] * 29)},
    "no outline": {"birth": {"outline": None}},
    "environment": {"birth": {"shares_environment": False}},
    "emperor": {"launch": {"emperor": EmperorSpec()}},
    "fallback": {"launch": {"fallback_config": "b.ini"}},
    "hook": {"launch": {"hooks": (HOOK,)}},
    "name to look up": {"server": {"listeners": (Listener("localhost:0", "http"),)}},
    "port 0": {"server": {"listeners": (Listener("127.0.0.1:0", "http"),)}},
    "no listener": {"server": {"listeners": ()}},
    "bad address": {"server": {"listeners": (Listener("a:b", "http"),)}},
    "long path": {"server": {"listeners": (Listener("/" * 103, "http"),)}},
    "unprintable": {"server": {"listeners": (Listener("/run/\x1b", "http"),)}},
    "inherited": {"server": {"listeners": (Listener("fd://3", "http"),)}},
    "shared": {"server": {"listeners": (dataclasses.replace(HTTP, shared=True),)}},
    "by number": {"server": {"listeners": (Listener("=0", "http"),)}},
    "no protocol": {"server": {"listeners": (Listener("/run/a", ""),)}},
    "twice": {"server": {"listeners": (HTTP, HTTP)}},
    "many": {"server": {"listeners": tuple(Listener(f"/run/{i}", "http") for i in range(17))}},
    "too long": {"server": {"options": (("a", "x" * DIRECT_LIMIT),)}},
    "65 workers": {"server": {"processes": 65}},
    "no worker": {"server": {"processes": 0}},
    **{f"jail {key}": {"jail": {key: value}} for key, value in {
        "immediate_uid": "5", "immediate_gid": "5", "chown_socket": "5",
        "drop_after_init": True, "drop_after_apps": True, "master_as_root": True,
        "rootfs": "host", "unshare": frozenset({"ipc"}), "refork": True, "setns": "/run/ns",
    }.items()},
    **{f"server {key}": {"server": {key: value}} for key, value in {
        "envdirs": ("/etc",), "pidfile": "/p", "pidfile2": "/p", "safe_pidfile": "/p",
        "safe_pidfile2": "/p", "logto": "/l", "logto2": "/l", "file_write": (("/f=x", PLACE),),
        "no_server": True, "chown_socket": "a", "http_routers": (HTTP,), "mules": ("",),
        "daemons": (Daemon("true", "attach-daemon", PLACE),), "stats": "/s",
        "master_fifo": ("/f",), "touch_reload": ("/t",), "touch_chain_reload": ("/t",),
        "touch_workers_reload": ("/t",), "touch_hooks": (TouchHook("/t", "print:x", PLACE),),
        "emperor_proxy_socket": "/e", "harakiri": 3, "idle": 9, "max_worker_lifetime": 9,
        "auto_procname": True, "procname": "p", "procname_master": "p", "procname_prefix": "p",
        "procname_prefix_spaced": "p", "procname_append": "p",
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("words", PLAIN.values(), ids=PLAIN)
def test_what_only_asks_the_kernel_is_written_flat(words):
    wanted = order(**words)
    head, acts = read(flat.write(wanted))
    assert head[:2] == (b"F", len(wanted.roles))
    assert head[3:5] == (3, 77)
    assert head[7] == wanted.clone_flags
    record = next(data for kind, _, data in acts if kind == ACTS["ACT_RECORD"])
    assert pickle.loads(record) == wanted


@pytest.mark.parametrize("words", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_asks_for_more_is_left_to_the_interpreter(words):
    words = dict(words)
    wanted = (
        dataclasses.replace(order(), birth=None) if words == {"birth": None} else order(**words)
    )
    assert flat.write(wanted) is None


# -- what stands in it


def kinds(words):
    names = {value: name.removeprefix("ACT_").lower() for name, value in ACTS.items()}
    return [
        (names[kind], resume, data) for kind, resume, data in read(flat.write(order(**words)))[1]
    ]


def test_acts_stand_in_the_order_of_a_start_and_know_where_an_interpreter_goes_on():
    acts = kinds(
        {
            "jail": {"uid": "20001", "gid": "20002", "cap": frozenset({10}), "prio": 5, "max_fd": 99,
                     "hostname": "a", "clone_flags": frozenset({"uts", "fs"}), "limit_nproc": 7,
                     "no_new_privs": True},
            "server": {"chdir": "/srv/a", "environment": ()},
            "uid": 5, "gid": 6, "cap": frozenset({3}), "roles": (*ROLES, "go"),
            "birth": {},
        }
    )  # fmt: skip
    names = [name for name, _, _ in acts]
    assert names[:8] == [
        "directory", "wait_for_maps", "command_line", "bound", "restrict", "become", "hold_caps", "dumpable",
    ]  # fmt: skip
    assert names[-5:] == ["directory", "limit", "listen", "record", "serve"]
    middle = acts[8:-5]
    assert [name for name, _, _ in middle].index("become") > [n for n, _, _ in middle].index(
        "bound"
    )
    assert {resume for _, resume, _ in acts[:8]} == {flat._NO_RESUME}
    resumes = [resume for _, resume, _ in middle]
    assert resumes == sorted(resumes)
    assert resumes[0] == 0
    assert [resume for _, resume, _ in acts[-5:]] == [
        AFTER_DROP,
        AFTER_DROP,
        SOCKETS,
        SOCKETS,
        SOCKETS,
    ]


def test_each_act_carries_what_was_asked_for():
    jail = {"uid": "20001", "gid": "20002", "add_gids": ("5", "6"), "prio": -3, "max_fd": 99}
    acts = {name: data for name, _, data in kinds({"jail": jail, "server": {"chdir": "/srv/ä"}})}
    assert acts["command_line"] == b"donjon\0--ini\0a.ini\0"
    assert acts["directory"] == "/srv/ä".encode() + b"\0"
    assert acts["become"] == struct.pack("=qqqII", 20001, 20002, 2, 5, 6)
    assert acts["priority"] == struct.pack("=q", -3)
    assert struct.unpack("=Q", acts["serve"][:8]) == (board.size_of(1, 1),)
    limits = [data for name, _, data in kinds({"jail": jail}) if name == "limit"]
    assert struct.pack("=QQQ", resource.RLIMIT_NOFILE, 99, 99) in limits


@pytest.mark.parametrize(
    ("address", "family", "port", "text"),
    [
        ("/run/a", socket.AF_UNIX, 0, b"/run/a\0"),
        ("@name", socket.AF_UNIX, 0, b"\0name\0"),
        ("127.0.0.1:80", socket.AF_INET, 80, b"127.0.0.1\0"),
        ("[::1]:81", socket.AF_INET6, 81, b"::1\0"),
    ],
)
def test_a_listener_is_its_address_and_how_it_listens(address, family, port, text):
    server = {"listeners": (Listener(address, "http"),), "listen": 50, "chmod_socket": 0o666}
    plain = next(data for name, _, data in kinds({"server": server}) if name == "listen")
    assert plain == struct.pack("=6i", family, port, 50, 0o666, -1, 0) + text
    server |= {"chmod_socket": None, "umask": 0o77, "reuse_port": True}
    other = next(data for name, _, data in kinds({"server": server}) if name == "listen")
    assert other == struct.pack("=6i", family, port, 50, -1, 0o77, 1) + text


@pytest.mark.parametrize(
    "server",
    [{"processes": 2}, {"threads": 2}, {"lazy_apps": True}, {"python_import": ("json",)},
     {"pythonpath": ("/srv",)}, {"virtualenv": "/venv"}, {"applications": ()},
     {"applications": (FILE, FILE)}, {"applications": (Application("wsgi-file", "a.py", "/m"),)}],
    ids=str,
)  # fmt: skip
def test_a_worker_that_is_not_plain_is_told_nothing(server):
    def told(words):
        return next(data[8:] for name, _, data in kinds(words) if name == "serve")

    assert told({"server": server}) == b""
    assert told({}) != b""


def test_bytes_that_are_no_text_go_through():
    name = os.fsdecode(b"/srv/\xff")
    acts = {name: data for name, _, data in kinds({"server": {"chdir": name}})}
    assert acts["directory"] == b"/srv/\xff\0"


def test_a_network_to_be_born_in_goes_with_the_order_and_what_nobody_knows_does_not():
    *_, roles = flat.HEAD.unpack_from(flat.write(order(roles=(*ROLES, "network"))))
    assert roles.rstrip(b"\0")[-1:] == b"n"
    assert flat.write(order(roles=(*ROLES, "stdin"))) is None
