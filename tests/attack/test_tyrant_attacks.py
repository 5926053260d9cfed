"""A customer whose file a tyrant runs tries to get what is another's, or to get past his walls."""

import os
import socket
import threading

import hosting
import pytest

from donjon.config.evaluate import evaluate
from donjon.config.spec import EmperorSpec
from donjon.config.world import ClosedWorld
from donjon.emperor import leftovers, ondemand
from donjon.emperor.prepare import Preparer
from donjon.emperor.reading import foreign_refusal, read_config
from donjon.emperor.scanner import Found
from donjon.errors import ConfigError

pytestmark = pytest.mark.root

MALLORY, ALICE = 1001, 1002


def found(path, uid, gid):
    """What a scan saw under a name."""
    info = os.stat(path)
    return Found("a.ini", str(path), 0, (info.st_dev, info.st_ino), uid, gid, 1)


def own(path, uid, text="[uwsgi]\nenv = SECRET=1\n", mode=0o600):
    """Write a file of a customer's."""
    path.write_text(text)
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path


def understood(text, operators="", uid=MALLORY, clone=()):
    """What a tyrant makes of a customer's text."""
    spec = EmperorSpec(
        sources=("/v",), tyrant=True, vassals_include=("/base.ini",), use_clone=frozenset(clone)
    )
    preparer = Preparer(spec, ["donjon"])
    seen = Found("a.ini", "/v/a.ini", 0, (0, 0), uid, uid, 1)
    files = {"a.ini": f"[uwsgi]\n{text}".encode(), "/base.ini": f"[uwsgi]\n{operators}".encode()}
    world = ClosedWorld.over(files)
    entries = evaluate(preparer.argv("a.ini", seen)[1:], environ={}, world=world).entries
    return preparer.understand("a.ini", seen, entries)


def test_a_file_that_changed_hands_after_the_look_is_not_run_as_the_former_owner(tmp_path):
    alices = own(tmp_path / "alice.ini", ALICE)
    seen = found(alices, MALLORY, MALLORY)
    assert "changed hands" in foreign_refusal(read_config(seen), seen, nofollow=False)


def test_a_link_does_not_read_what_its_owner_could_not(tmp_path):
    tmp_path.chmod(0o755)
    closed = tmp_path / "alice"
    closed.mkdir(mode=0o700)
    for path, mode in ((tmp_path / "closed.ini", 0o600), (closed / "open.ini", 0o644)):
        alices = own(path, ALICE, mode=mode)
        seen = found(alices, MALLORY, MALLORY)
        assert "closed to" in foreign_refusal(read_config(seen), seen, nofollow=True)


def test_files_swapped_in_a_loop_never_run_one_customers_text_as_another(host):
    home = host.place / "mallory"
    home.mkdir()
    mine = own(
        home / "mine.ini", MALLORY, f"[uwsgi]\nexec-asap = id -u > {home}/ran-as-$(id -u)\n"
    )
    alices = own(host.place / "alice.ini", ALICE)
    os.chown(home, MALLORY, MALLORY)
    home.chmod(0o777)
    (home / "v.ini").symlink_to(mine)
    (host.place / "vassals" / "v.ini").symlink_to(home / "v.ini")
    host.start("emperor-tyrant = true\nemperor-freq = 1\n")
    over = threading.Event()

    def swap():
        turn = 0
        while not over.is_set():
            turn += 1
            (home / "next").symlink_to((mine, alices)[turn % 2])
            os.replace(home / "next", home / "v.ini")
            os.utime(host.place / "vassals" / "v.ini", follow_symlinks=False)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        hosting.wait_for(lambda: host.log().count("changed. stopping") > 3, "changes", 20)
    finally:
        over.set()
        swapper.join()
    assert not (home / f"ran-as-{ALICE}").exists()


def test_the_janitor_is_not_told_of_sockets_that_are_not_the_customers(host):
    place = str(host.place / "sockets" / "mysqld.sock")
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(place)
        reading = understood(f"http-socket = {place}\n")
        assert leftovers.sockets_of(reading, "/", owner=MALLORY) == []
        os.chown(place, MALLORY, MALLORY)
        assert [path for path, _ in leftovers.sockets_of(reading, "/", owner=MALLORY)] == [place]


@pytest.mark.parametrize(
    ("root", "below"),
    [("host", ""), ("{}/root", "root"), ("overlay:{0}/root:{0}/cow", "cow/upper")],
)
def test_a_socket_in_a_root_that_lasts_is_known_to_the_host(host, root, below):
    (host.place / "root").mkdir()
    address = host.place / "own.sock"
    place = f"{host.place}/{below}{address}" if below else str(address)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with socket.socket(socket.AF_UNIX) as own_socket:
        own_socket.bind(place)
        operators = f"rootfs = {root.format(host.place)}\n"
        reading = understood(f"http-socket = {address}\n", operators, clone=["fs"])
        assert [path for path, _ in leftovers.sockets_of(reading, "/")] == [place]


@pytest.mark.parametrize("root", ["image:{}/files.img", "overlay:{}:size=1M"])
def test_a_socket_in_a_root_of_memory_is_not_that_of_the_host(host, root):
    (host.place / "files.img").write_bytes(b"hsqs" + bytes(4092))  # squashfs
    place = str(host.place / "sockets" / "mysqld.sock")
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(place)
        operators = f"rootfs = {root.format(host.place)}\n"
        reading = understood(f"http-socket = {place}\n", operators, clone=["fs"])
        assert leftovers.sockets_of(reading, "/") == []


def test_a_fifo_beside_a_vassal_does_not_stop_the_emperor(tmp_path):
    own(tmp_path / "a.ini", MALLORY)
    os.mkfifo(tmp_path / "a.ini.socket")
    spec = EmperorSpec(sources=(str(tmp_path),), on_demand_extension=".socket")
    assert ondemand.address_of(spec, found(tmp_path / "a.ini", MALLORY, MALLORY)) == ""


def test_a_customer_does_not_choose_what_root_binds(tmp_path):
    own(tmp_path / "a.ini", MALLORY)
    own(tmp_path / "a.ini.socket", MALLORY, "/etc/nologin\n")
    spec = EmperorSpec(sources=(str(tmp_path),), on_demand_extension=".socket", tyrant=True)
    with pytest.raises(ConfigError, match="not root's"):
        ondemand.address_of(spec, found(tmp_path / "a.ini", MALLORY, MALLORY))


def test_a_socket_address_never_removes_a_file_that_is_no_socket(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("x")
    with pytest.raises(ConfigError, match="precious"):
        ondemand.bind(str(precious))
    assert precious.read_text() == "x"


def test_a_customer_gets_no_priority_and_no_descriptors_by_roots_rights():
    for text in ("prio = -20\n", "max-fd = 1000000\n"):
        reading = understood(text + "hostname = cell\n")
        raising = next(
            i for i, line in enumerate(reading.plan) if "nice" in line or "open files" in line
        )
        becoming = next(i for i, line in enumerate(reading.plan) if "become" in line)
        assert becoming < raising, reading.plan


def test_a_customer_does_not_look_for_files_with_roots_eyes():
    plan = understood("wait-for-file = /var/lib/private/x\nhostname = cell\n").plan
    waiting = [line for line in plan if "wait for" in line]
    assert [line.partition(":")[0] for line in waiting] == ["limits"]
    plan = understood("", "wait-for-file = /var/lib/private/x\nhostname = cell\n").plan
    waiting = [line for line in plan if "wait for" in line]
    assert [line.partition(":")[0] for line in waiting] == ["as-root"]


def test_an_operator_still_gives_priority_by_roots_rights():
    reading = understood("", "prio = -5\nhostname = cell\n")
    plan = list(reading.plan)
    assert next(i for i, s in enumerate(plan) if "nice" in s) < next(
        i for i, s in enumerate(plan) if "become" in s
    )


def test_a_customer_keeps_no_capability_by_being_an_emperor_himself():
    assert not understood("emperor = /tmp/x\nhostname = cell\n").launch.jail.keep_root


def test_nothing_of_a_walled_customer_runs_before_the_walls(host):
    mark = host.place / "sockets" / "mark"
    path = host.vassal("shop", f"x = @(exec://id -u > {mark})\n")
    os.chown(path, MALLORY, MALLORY)
    base = host.place / "base.ini"
    base.write_text("[uwsgi]\nrootfs = host\n")
    host.start(f"emperor-tyrant = true\nvassals-include = {base}\n")
    hosting.wait_for(lambda: "reaches outside itself" in host.log(), "the refusal")
    assert not mark.exists()


def test_what_a_configuration_left_running_ends_with_its_evaluation(host):
    out = host.place / "sockets" / "pid"
    stay = f"(sh -c 'sed -n s/^NSpid:.//p /proc/self/status > {out}; exec sleep 3600' >/dev/null 2>&1 &)"
    path = host.vassal("shop", f"x = @(exec://{stay})\n")
    os.chown(path, MALLORY, MALLORY)
    host.start("emperor-tyrant = true\n")
    host.answer("shop")

    def sleepers():
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as words:
                    if (
                        words.read() == b"sleep\x003600\x00"
                        and os.stat(f"/proc/{name}").st_uid == MALLORY
                    ):
                        found.append(int(name))
            except OSError:
                continue
        return found

    hosting.wait_for(lambda: not sleepers(), "end of what was left running", 5)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("rlimit-nofile = 5:10", "limit nofile to 5"),
        ("oom-score-adj = -100", "set the OOM score to -100"),
        ("io-priority = realtime", "do input and output as realtime"),
        ("cap = net_bind_service", "keep the capabilities net_bind_service"),
        ("seccomp = learn", "record system calls"),
    ],
)
def test_what_takes_more_than_a_customers_rights_is_done_before_the_drop(line, step):
    reading = understood("", f"{line}\n")
    assert reading.uid is None, "he is not dropped at birth"
    plan = list(reading.plan)
    done = next(i for i, words in enumerate(plan) if step in words)
    becoming = next(i for i, words in enumerate(plan) if "become" in words)
    assert done < becoming or step[:4] in ("keep", "reco")


def test_a_customer_in_namespaces_alone_is_filtered_too():
    """Without root's help: the walls of birth, no_new_privs and the filter are taken on as him."""
    reading = understood("", clone=("pid", "ipc"))
    assert reading.uid == MALLORY
    assert [words.partition(": ")[2] for words in reading.plan] == [
        "take a session keyring of its own",
        "give up gaining privileges by executing programs",
        "filter system calls: default",
    ]
