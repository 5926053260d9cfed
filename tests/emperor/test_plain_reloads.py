"""Reloads of plain vassals: with another configuration, while they load, one after the other."""

import os
import signal

import pytest
from births import NAMESPACES, PUPPET, Gate, hosts, is_quiet, vassal, worker
from hosting import children, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host():
    """One Emperor; each test has vassals of its own."""
    with hosts() as make:
        yield make(NAMESPACES)


def loading(host, name):
    """Write a vassal whose application does not come to its end of loading; return its gate."""
    gate = Gate(host.place / f"{name}.gate")
    (host.place / f"{name}.py").write_text(gate.code + PUPPET)
    lines = (
        f"chdir = {host.place}\nhttp-socket = {host.sock(name)}\nchmod-socket = 666\n"
        f"wsgi-file = {name}.py\nuid = 20001\n"
    )
    host.write(name, lines)
    gate.reached()
    return gate


def touch(host, name, second):
    os.utime(host.place / "vassals" / f"{name}.ini", (second, second))


def test_a_reload_may_ask_for_more_than_a_waiting_master_does(host):
    master = vassal(host, "grown")
    assert is_quiet(master)
    host.vassal("grown", "uid = 20001\nprocesses = 2\nharakiri = 1\nenv = NEW=1\n")
    wait_for(lambda: len(children(master)) == 2, "two workers")
    wait_for(lambda: host.do("grown", "import os; result = os.environ.get('NEW')"), "the new one")
    with pytest.raises((ValueError, OSError)):
        host.do("grown", "import signal; signal.pause()")
    host.said("HARAKIRI ON WORKER")
    wait_for(lambda: len(children(master)) == 2, "two workers again")
    assert host.do("grown", "result = 1") == 1
    assert host.master("grown") == master


def test_a_reload_changes_sockets_and_application(host):
    master = vassal(host, "changed", "vacuum = true\n")
    (host.place / "second.py").write_text("import os\nos.environ['FILE'] = __file__\n" + PUPPET)
    path = host.place / "sockets" / "changed-too.sock"
    lines = (
        f"chdir = {host.place}\nhttp-socket = {path}\nchmod-socket = 666\nwsgi-file = second.py\n"
        "uid = 20001\nvacuum = true\n"
    )
    host.write("changed", lines)
    wait_for(path.exists, "the other socket")
    wait_for(lambda: not host.sock("changed").exists(), "the end of the old one")
    found = "import os; result = os.environ.get('FILE')"
    assert wait_for(lambda: host.do("changed-too", found), "an answer") == "second.py"
    assert host.master("changed") == master
    (host.place / "vassals" / "changed.ini").unlink()
    wait_for(lambda: not path.exists(), "a clean place")


def test_a_reload_that_cannot_load_leaves_the_old_one_serving(host):
    master = vassal(host, "kept")
    old = worker(master)
    host.vassal("kept", "uid = 20001\nwsgi-file = no-such-file.py\nneed-app = true\n")
    host.said("reload failed, generation 1 goes on serving")
    wait_for(lambda: children(master) == [old], "the old worker")
    assert host.do("kept", "result = 1") == 1
    touch(host, "kept", 5)
    host.said("reload failed, generation 1 goes on serving", 2)
    assert (host.master("kept"), worker(master)) == (master, old)


@pytest.mark.parametrize("how", ["touch", "signal", "both"])
def test_a_reload_that_comes_while_the_application_loads_is_done_after_it(host, how):
    name = f"slow-{how}"
    gate = loading(host, name)
    master = host.known(name)
    old = worker(master)
    if how != "signal":
        touch(host, name, 7)
        host.said(f"[emperor] reload the uwsgi instance {name}.ini")
    if how != "touch":
        os.kill(master, signal.SIGHUP)
    assert children(master) == [old]
    gate.open()
    wait_for(lambda: len(children(master)) == 1 and children(master) != [old], "another worker")
    assert wait_for(lambda: host.do(name, "import uwsgi; result = uwsgi.is_a_reload"), "an answer")
    assert host.master(name) == master


def test_a_worker_that_is_killed_while_it_loads_ends_the_vassal_which_comes_again(host):
    gate = loading(host, "hit")
    master = host.known("hit")
    os.kill(worker(master), signal.SIGKILL)
    gate.open()
    wait_for(lambda: host.master("hit") not in (-1, master), "another master")
    assert is_quiet(host.born("hit"))


def test_a_vassal_that_dies_on_term_does(host):
    master = vassal(host, "termed", "die-on-term = true\n")
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: host.master("termed") not in (-1, master), "another master")
    assert is_quiet(host.born("termed"))
