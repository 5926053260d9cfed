"""Applications of plain vassals: that cannot load, that print, that ask about their instance."""

import os
import signal

import pytest
from births import NAMESPACES, PUPPET, hosts, is_quiet, worker
from hosting import children, receive, wait_for

pytestmark = pytest.mark.root

BROKEN = {
    "syntax": "def (:\n",
    "raises": "1 / 0\n",
    "attribute": "x = 1\n",
    "uncallable": "application = 3\n",
    "missing-module": "import no_such_module\n",
    "zero-bytes": "\0",
}
LEAVING = {
    "leaves": "raise SystemExit(7)\n",
    "leaves-softly": "raise SystemExit\n",
    "leaves-with-words": "raise SystemExit('enough')\n",
    "ends": "import os; os._exit(5)\n",
    "kills": "import os; os.kill(os.getpid(), 9)\n",
    "interrupts": "raise KeyboardInterrupt\n",
    "aborts": "import os; os.abort()\n",
}


@pytest.fixture(scope="module")
def host():
    """Every broken application: plain and not, needed and not."""
    with hosts() as make:
        yield fill(make())


def fill(one):
    for name, text in {**BROKEN, **LEAVING}.items():
        (one.place / f"{name}.py").write_text(text)
        write_pair(one, name, name, "")
    for name in BROKEN:
        write_pair(one, f"need-{name}", name, "need-app = true\n")
    one.start(NAMESPACES)
    return one


def write_pair(host, name, application, text):
    for kind, more in (("plain", ""), ("other", f"pidfile = {host.place}/sockets/{name}.pid\n")):
        whole = f"{name}-{kind}"
        lines = (
            f"chdir = {host.place}\nhttp-socket = {host.sock(whole)}\nuid = 20001\n"
            f"wsgi-file = {application}.py\n{text}{more}"
        )
        host.write(whole, lines)


@pytest.mark.parametrize("name", BROKEN)
def test_an_application_that_cannot_load_is_an_error_page(host, name):
    def page(kind):
        return receive(host.sock(f"{name}-{kind}"), b"GET / HTTP/1.0\r\n\r\n")

    answers = [wait_for(lambda kind=kind: page(kind), "a page") for kind in ("plain", "other")]
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.0 500 ")
    assert is_quiet(host.known(f"{name}-plain"))
    assert not is_quiet(host.known(f"{name}-other"))


@pytest.mark.parametrize("name", [*LEAVING, *(f"need-{name}" for name in BROKEN)])
def test_an_application_that_ends_its_worker_ends_the_vassal_with_the_same_words(host, name):
    errors = {}
    for kind in ("plain", "other"):
        whole = f"{name}-{kind}"
        errors[kind] = host.error(whole).replace(whole, name)
        wait_for(lambda whole=whole: host.row(whole)["state"] == "waiting", "patience")
    assert errors["plain"] == errors["other"]
    assert errors["plain"].count("\n") == 0
    if name.startswith("need-"):
        assert "22" in errors["plain"]


PRINTING = f"""
import os, sys
print("to stdout at import", flush=False)
print("to stderr at import", file=sys.stderr)
os.environ["CHANGED"] = "by the application"
os.environ.pop("PATH", None)
os.chdir("/tmp")
from uwsgidecorators import postfork
@postfork
def forked():
    print("to stdout after the fork", flush=True)
{PUPPET}"""
ASK = """
import uwsgi, os
result = {
    "opt": {k: v if v is True else v.decode() for k, v in uwsgi.opt.items() if "sock" not in k and "pidfile" not in k},
    "worker": uwsgi.worker_id(), "master": uwsgi.masterpid() == os.getppid(), "version": uwsgi.version.decode(),
    "numproc": uwsgi.numproc, "cores": uwsgi.cores, "applications": uwsgi.applications, "dir": dir(uwsgi),
    "mule": uwsgi.mule_id(), "requests": uwsgi.total_requests() > 0, "reload": uwsgi.is_a_reload,
    "workers": [(w["id"], w["pid"] == os.getpid(), w["status"].decode()) for w in uwsgi.workers()],
    "environ": dict(os.environ), "cwd": os.getcwd(), "hostname": uwsgi.hostname.decode(),
    "buffer": uwsgi.buffer_size, "since": uwsgi.started_on > 1e9,
}
"""


@pytest.fixture
def puppets(new_births):
    """A pair of vassals whose application prints, and changes its environment."""
    one = new_births()
    (one.place / "printing.py").write_text(PRINTING)
    write_pair(one, "puppet", "printing", "need-app = true\nmax-requests = 1000\n")
    one.start(NAMESPACES)
    return one


def test_an_application_is_told_the_same_and_what_it_prints_is_seen(puppets):
    asked = []
    for kind in ("plain", "other"):
        puppets.born(f"puppet-{kind}")
        asked.append(puppets.do(f"puppet-{kind}", ASK))
    assert asked[0] == asked[1]
    assert asked[0]["environ"]["CHANGED"] == "by the application"
    assert asked[0]["cwd"] == "/tmp"
    assert asked[0]["master"] is True
    puppets.said("to stdout at import", 2)
    puppets.said("to stderr at import", 2)
    puppets.said("to stdout after the fork", 2)
    assert is_quiet(puppets.master("puppet-plain"))


def test_a_process_of_the_application_knows_its_master_too(puppets):
    code = """
import os
reader, writer = os.pipe()
if os.fork() == 0:
    import uwsgi
    os.write(writer, str(uwsgi.masterpid()).encode())
    os._exit(0)
os.wait()
result = int(os.read(reader, 9))
"""
    for kind in ("plain", "other"):
        puppets.born(f"puppet-{kind}")
        assert puppets.do(f"puppet-{kind}", code) == 1


def test_what_an_application_changed_is_so_in_the_next_worker_too(puppets):
    for kind in ("plain", "other"):
        master = puppets.born(f"puppet-{kind}")
        old = worker(master)
        os.kill(old, signal.SIGKILL)
        wait_for(lambda m=master, o=old: children(m) not in ([], [o]), "another worker")
        facts = wait_for(lambda k=kind: puppets.do(f"puppet-{k}", ASK), "an answer")
        assert (facts["cwd"], facts["environ"]["CHANGED"]) == ("/tmp", "by the application")
        assert facts["master"] is True


def test_an_application_can_ask_for_its_reload_again_and_again(puppets):
    for kind in ("plain", "other"):
        name = f"puppet-{kind}"
        master = puppets.born(name)
        for count in range(3):
            old = worker(master)
            puppets.do(name, "import uwsgi; uwsgi.reload()")
            wait_for(
                lambda m=master, o=old: len(children(m)) == 1 and children(m) != [o], "a reload"
            )
            code = "import uwsgi; result = uwsgi.is_a_reload, uwsgi.worker_id()"
            assert wait_for(lambda n=name, c=code: puppets.do(n, c), "an answer") == [True, 1], (
                count
            )
        assert puppets.master(name) == master


def test_an_application_can_ask_for_its_end(puppets):
    for kind in ("plain", "other"):
        master = puppets.born(f"puppet-{kind}")
        puppets.do(f"puppet-{kind}", "import uwsgi; uwsgi.stop()")
        wait_for(lambda m=master, k=kind: puppets.master(f"puppet-{k}") != m, "its end")


def test_a_worker_that_served_its_time_is_replaced_without_a_lost_request(new_births):
    host = new_births(NAMESPACES)
    host.vassal("a", "uid = 20001\nmax-requests = 10\nmin-worker-lifetime = 0\n")
    master = host.born("a")
    seen: set[object] = set()
    asked = 0
    while len(seen) < 3 and asked < 20_000:  # an old worker serves until the new one does
        seen.add(host.do("a", "import os; result = os.getpid()"))
        asked += 1
    assert len(seen) == 3
    assert host.master("a") == master
    wait_for(lambda: len(children(master)) == 1, "one worker")
