"""Tyrant mode and a jail that root builds: what a customer asks for comes after walls and drop."""

import os

import hosting
import pytest

pytestmark = pytest.mark.root

OWNER = 1000


def customer(host, text):
    """Write a vassal that belongs to a customer, who may write to ``sockets`` only."""
    path = host.vassal("shop", text.replace("PLACE", f"{host.place}/sockets"))
    os.chown(path, OWNER, OWNER)


def include(host, text):
    """Start a tyrant that gives each vassal these lines of the operator."""
    base = host.place / "base.ini"
    base.write_text("[uwsgi]\n" + text)
    host.start(f"emperor-tyrant = true\nvassals-include = {base}\n")


def owners(host):
    """Return who owns each file that the vassal made."""
    return {path.name: path.stat().st_uid for path in (host.place / "sockets").iterdir()}


def test_everything_of_a_customer_happens_as_its_owner(host):
    customer(
        host,
        "hostname = cell\n"
        "hook-asap = exec:id -u > PLACE/asap\n"
        "exec-pre-jail = id -u > PLACE/pre-jail\n"
        "hook-in-jail = exec:id -u > PLACE/in-jail\n"
        "exec-as-user = echo $ASKED > PLACE/as-user\n"
        "env = ASKED=yes\n"
        "file-write = PLACE/written=x\n"
        "pidfile = PLACE/pid\n"
        "logto = PLACE/log\n"
        "touch-reload = PLACE/written\n"
        "shared-socket = PLACE/shared.sock\n"
        "socket = =0\n"
        f"chown-socket = {OWNER}\n",
    )
    host.start("emperor-tyrant = true\n")
    assert host.answer("shop")["hostname"] == "cell"
    made = owners(host)
    assert set(made.values()) == {OWNER}
    assert {"asap", "pre-jail", "in-jail", "as-user", "written", "pid", "log"} <= set(made)
    assert (host.place / "sockets" / "as-user").read_text() == "yes\n"


def test_variables_of_a_customer_do_not_reach_hooks_of_the_operator(host):
    customer(host, "env = ASKED=yes\n")
    out = host.place / "operator"
    include(host, f"hostname = cell\nexec-as-root = echo $(id -u) [$ASKED] > {out}\n")
    host.answer("shop")
    assert out.read_text() == "0 []\n"


def test_a_fallback_of_a_customer_does_not_run_before_the_drop(host):
    spare = host.place / "sockets" / "spare.ini"
    spare.write_text(f"[uwsgi]\nhook-asap = exec:id -u > {spare}.ran\n")
    customer(host, f"fallback-config = {spare}\n")
    include(host, f"hostname = cell\nexec-as-root = echo x >> {host.place}/tried; exit 3\n")
    tried = host.place / "tried"
    hosting.wait_for(lambda: tried.exists() and tried.stat().st_size >= 4, "second try", 15)
    assert not os.path.exists(f"{spare}.ran")


def test_a_customer_cannot_bind_a_privileged_port(host):
    customer(host, "hostname = cell\nshared-socket = 127.0.0.1:1\nsocket = =0\n")
    host.start("emperor-tyrant = true\n")
    hosting.wait_for(lambda: "127.0.0.1:1" in host.log(), "the refusal", 15)
    hosting.wait_for(lambda: "Permission denied" in host.log(), "its reason", 15)


def test_a_customer_is_shown_no_directory_below_a_closed_one(host):
    closed = host.place / "other"
    (closed / "private").mkdir(parents=True)
    (closed / "private" / "secret").write_text("x")
    closed.chmod(0o700)
    customer(host, f"pythonpath = {closed}/private\n")
    include(host, "rootfs = host\n")
    reason = f"{closed}/private cannot be shown in the jail: {closed} is closed to uid {OWNER}"
    hosting.wait_for(lambda: reason in host.log(), "the refusal", 15)


def test_a_customer_is_shown_what_is_his(host):
    own = host.place / "own"
    (own / "lib").mkdir(parents=True)
    own.chmod(0o700)
    os.chown(own, OWNER, OWNER)
    customer(host, f"pythonpath = {own}/lib\n")
    sockets = f"{host.place}/sockets"
    include(host, f"rootfs = host\nhostname = cell\nbind = {sockets}:{sockets}\n")
    assert host.answer("shop")["hostname"] == "cell"
