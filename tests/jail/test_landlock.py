"""Landlock, the second wall: what it holds back that mounts and permissions would allow."""

import errno
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from jailer import FIVE, status_of

from donjon.errors import JailError
from donjon.jail import landlock, plan
from donjon.jail.spec import Bind, FileRule, JailSpec, Tmpfs
from donjon.origin import Origin

pytestmark = pytest.mark.root
LINE = Origin("/etc/v/a.ini", 4, "landlock")


@pytest.fixture(autouse=True)
def _needs_landlock():
    if not landlock.version():
        pytest.skip("this kernel has no Landlock")


@pytest.fixture
def place(tmp_path):
    """A directory open to everybody, with one file."""
    for one in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        one.chmod(0o755)
    open_one = tmp_path / "open"
    open_one.mkdir()
    open_one.chmod(0o777)
    (open_one / "file").write_text("old")
    (open_one / "file").chmod(0o666)
    return open_one


def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def ruled(*rules, **more):
    found = tuple(FileRule(*rule, LINE) for rule in rules)
    return JailSpec(uid="20001", jailed=True, landlock=found, **more)


def deeds(place):
    return {
        "read": tried((place / "file").read_text),
        "write": tried(lambda: (place / "file").write_text("new")),
        "make": tried((place / "made").touch),
        "link": tried(lambda: (place / "link").symlink_to("file")),
        "list": tried(lambda: os.listdir(place)),
        "elsewhere": tried(lambda: Path("/etc/hostname").read_text()),
    }


ALLOWED = {
    "ro": {"read", "list"},
    "exec": {"read", "list"},
    "rw": {"read", "list", "write", "make", "link"},
    "all": {"read", "list", "write", "make", "link"},
}


@pytest.mark.parametrize("mode", ALLOWED)
def test_a_mode_allows_what_it_says_and_nothing_elsewhere(jail, place, mode):
    seen = jail(ruled((str(place), mode), ("/proc", "ro")), lambda: deeds(place))
    assert {name for name, result in seen.items() if result == "done"} == ALLOWED[mode]
    assert set(seen.values()) <= {"done", "EACCES"}


@pytest.mark.parametrize(("mode", "runs"), [("ro", False), ("exec", True), ("rw", False)])
def test_programs_are_executed_where_that_is_allowed(jail, mode, runs):
    def look():
        return tried(lambda: subprocess.run(["/usr/bin/true"], check=True))

    seen = jail(ruled(("/usr", mode), ("/lib64", mode), ("/dev", "rw")), look)
    assert (seen == "done") is runs


def test_a_rule_can_be_for_one_file(jail, place):
    (place / "other").write_text("other")
    (place / "other").chmod(0o666)
    rules = ruled((str(place / "file"), "rw"))

    def look():
        return tried(lambda: (place / "file").write_text("x")), tried((place / "other").read_text)

    assert jail(rules, look) == ("done", "EACCES")


def test_a_descriptor_of_a_directory_outside_leads_nowhere(jail, place):
    """Case 23: a directory that somebody handed in is no way out."""
    secret = place.parent / "secret"
    secret.mkdir(mode=0o755)
    (secret / "file").write_text("secret")
    outside = os.open(secret, os.O_RDONLY | os.O_DIRECTORY)

    def look():
        return tried(lambda: os.close(os.open("file", os.O_RDONLY, dir_fd=outside)))

    spec = JailSpec(uid="20001", rootfs="host")
    assert jail(spec, look, born_in=FIVE) == "done"
    spec = JailSpec(uid="20001", rootfs="host", landlock=(FileRule("auto", "ro", LINE),))
    assert jail(spec, look, born_in=FIVE) == "EACCES"
    os.close(outside)


def test_auto_follows_from_the_jail(jail, place, host_unchanged):
    spec = JailSpec(
        uid="20001",
        rootfs="host",
        binds=(
            Bind(str(place), "/srv/data"),
            Bind(str(place), "/srv/fixed", read_only=True),
        ),
        tmpfs=(Tmpfs("/scratch"),),
        landlock=(FileRule("auto", "ro", LINE),),
    )

    def look():
        return {
            "tmp": tried(lambda: Path("/tmp/a").write_text("a")),
            "shm": tried(lambda: Path("/dev/shm/a").write_text("a")),
            "scratch": tried(lambda: Path("/scratch/a").write_text("a")),
            "null": tried(lambda: Path("/dev/null").write_text("a")),
            "bind": tried(lambda: Path("/srv/data/file").write_text("a")),
            "fixed": tried(lambda: Path("/srv/fixed/file").write_text("a")),
            "program": tried(lambda: subprocess.run(["true"], check=True)),
            "passwd": tried(lambda: Path("/etc/passwd").read_text()),
            "terminal": tried(lambda: [os.close(fd) for fd in os.openpty()]),
        }

    seen = jail(spec, look, born_in=FIVE)
    assert seen.pop("fixed") in ("EROFS", "EACCES")
    assert set(seen.values()) == {"done"}, seen


def test_auto_lets_nobody_signal_or_call_those_outside(jail):
    if landlock.version() < 6:
        pytest.skip("this kernel's Landlock has no scopes (6.12)")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0donjon-landlock-test")
        server.listen()
        parent = os.getpid()

        def call():
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("\0donjon-landlock-test")

        def look():
            child = os.fork()
            if child == 0:
                signal.pause()
            own = tried(lambda: os.kill(child, signal.SIGKILL))
            os.waitpid(child, 0)
            return own, tried(lambda: os.kill(parent, 0)), tried(call)

        spec = JailSpec(
            rootfs="host", cap=frozenset({5}), landlock=(FileRule("auto", "ro", LINE),)
        )
        walls = frozenset({"fs", "ipc", "uts"})  # neither pid nor net: both are within reach
        assert jail(spec, look, born_in=walls) == ("done", "EPERM", "EPERM")
        free = JailSpec(rootfs="host", cap=frozenset({5}))
        assert jail(free, look, born_in=walls) == ("done", "done", "done")


def test_rules_survive_programs_and_cannot_be_loosened(jail, place):
    rules = ruled((str(place), "ro"), ("/usr", "exec"), ("/lib64", "exec"), ("/dev", "rw"))

    def look():
        command = ["/usr/bin/cp", "/dev/null", str(place / "file")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "Permission denied" in done.stderr

    assert jail(rules, look)


def test_rules_hold_together_with_the_filter_and_the_drop(jail, place):
    rules = ruled((str(place), "ro"), ("/proc", "ro"))
    seen = jail(rules, lambda: (os.getuid(), status_of("Seccomp"), status_of("NoNewPrivs")))
    assert seen == (20001, "2", "1")


def test_a_kernel_without_landlock_is_said_in_one_line(jail, place, capfd):
    spec = ruled((str(place), "ro"))
    told = jail.tell(spec, lambda: tried(lambda: Path("/etc/hostname").read_text()),
                     inject=("landlock_abi", errno.ENOSYS))  # fmt: skip
    assert told.value == "done"
    line = "donjon: /etc/v/a.ini:4: landlock: this kernel has no Landlock; no second wall\n"
    assert capfd.readouterr().err == line


@pytest.mark.parametrize(
    "name", ["landlock_create_ruleset", "landlock_add_path", "landlock_restrict_self"]
)
def test_rules_that_cannot_be_made_end_the_start(jail, place, name):
    told = jail.tell(ruled((str(place), "ro")), inject=(name, errno.ENOMEM))
    assert told.error.startswith("/etc/v/a.ini:4: landlock: cannot ")
    assert told.error.endswith(": Cannot allocate memory")


def test_a_path_that_is_not_there_is_named(jail):
    told = jail.tell(ruled(("/nowhere", "ro")))
    assert told.error == (
        "/etc/v/a.ini:4: landlock: cannot prepare file rules: /nowhere:ro: /nowhere: "
        "No such file or directory"
    )


def test_auto_needs_something_to_follow_from():
    with pytest.raises(JailError) as caught:
        plan.build(ruled(("auto", "ro")), root=True)
    assert str(caught.value) == (
        "/etc/v/a.ini:4: landlock: landlock = auto has nothing to follow from: the jail has neither "
        "rootfs nor bind (name the paths: landlock = /srv/app:rw)"
    )


def test_an_emperor_is_not_restricted():
    rules = (FileRule("/srv", "rw", LINE),)
    with pytest.raises(JailError, match="an Emperor cannot be restricted by landlock"):
        plan.build(JailSpec(jailed=True, keep_root=True, landlock=rules), root=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("/srv", ("/srv", "ro")), ("/srv:rw", ("/srv", "rw")), ("/a:b:exec", ("/a:b", "exec")),
     ("auto", ("auto", "ro"))],
)  # fmt: skip
def test_a_rule_is_a_path_and_a_mode(text, value):
    assert landlock.parse(text) == value


@pytest.mark.parametrize("text", ["", "srv", "/srv:x", "auto:rw", ":rw"])
def test_a_rule_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"is none of|not an absolute path"):
        landlock.parse(text)


def test_older_kernels_are_asked_for_what_they_know():
    assert landlock.handled(1) == (1 << 13) - 1
    assert landlock.handled(3) == (1 << 15) - 1
    assert landlock.handled(7) == (1 << 16) - 1
