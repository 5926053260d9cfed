"""A plain vassal is what it would be if an interpreter had brought it up, and costs less."""

import os

import pytest
from births import NAMESPACES, facts, hosts, is_quiet, private_memory, worker, worker_facts
from hosting import alive, children, wait_for

pytestmark = pytest.mark.root

QUIET_MEMORY = 400  # KiB
SAME = {
    "root": "",
    "uid": "uid = 20001\n",
    "gid": "uid = 20001\ngid = 20002\nadd-gid = 20003\nadd-gid = 20004\n",
    "name": "uid = nobody\n",
    "cap": "uid = 20001\ncap = net_bind_service,sys_nice\n",
    "root-cap": "cap = setuid,setgid\n",
    "prio": "uid = 20001\nprio = 7\n",
    "max-fd": "uid = 20001\nmax-fd = 300\n",
    "nproc": "uid = 20005\nlimit-nproc = 40\n",
    "as": "uid = 20001\nlimit-as = 2048\n",
    "hostname": "hostname = customer\nuid = 20001\n",
    "privs": "uid = 20001\nno-new-privs = true\n",
    "old-privs": "uid = 20001\nno-new-privs = false\n",
    "env": "uid = 20001\nenv = A=1\nenv = B=two words\nunenv = HOME\n",
    "chdir": "uid = 20001\nchdir = %(place)s/elsewhere\nchdir2 = /tmp\n",
    "pyargv": "uid = 20001\npyargv = one two\n",
    "threads": "uid = 20001\nthreads = 3\n",
    "module": "uid = 20001\nneed-app = true\npythonpath = %(place)s\n",
    "umask": "uid = 20001\numask = 027\n",
    "network": "uid = 20001\nnetwork = none\n",
}
INSIDE = """
import os, resource, signal, socket, sys
result = {
    "environ": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path, "ids": os.getresuid(),
    "groups": os.getgroups(), "host": socket.gethostname(),
    "signals": {n: str(signal.getsignal(n)).split(" at ")[0] for n in range(1, 32)},
    "modules": sorted(m for m in sys.modules if m.startswith("uwsgi")),
    "threads": __import__("threading").active_count(),
}
"""


@pytest.fixture(scope="module")
def host():
    """Every vassal of SAME, twice."""
    with hosts() as make:
        yield fill(make())


def fill(one):
    (one.place / "elsewhere").mkdir()
    (one.place / "elsewhere" / "app.py").symlink_to(one.place / "app.py")
    for name, text in SAME.items():
        one.pair(name, text % {"place": one.place})
    one.start(NAMESPACES)
    return one


def same(host, name, *, plain=True):
    """Compare the two vassals of a pair, from outside and from inside."""
    masters, workers, inside = [], [], []
    for kind in ("plain", "other"):
        master = host.born(f"{name}-{kind}")
        masters.append(facts(master, f"{name}-{kind}"))
        workers.append(worker_facts(worker(master), f"{name}-{kind}"))
        inside.append(host.do(f"{name}-{kind}", INSIDE))
        assert is_quiet(master) is (plain and kind == "plain")
    found = differences(*masters), differences(*workers), differences(*inside)
    assert found == ({}, {}, {})
    return masters[0]


def differences(one, other):
    """What is not the same in two records."""
    return {key: (one[key], other[key]) for key in one if one[key] != other[key]}


@pytest.mark.parametrize("name", SAME)
def test_a_vassal_is_the_same_however_it_was_born(host, name):
    same(host, name)


def test_a_waiting_master_never_ran_an_interpreter_whatever_is_asked_of_its_worker(host):
    master = host.born("uid-plain")
    for _ in range(100):
        host.do("uid-plain")
    assert is_quiet(master)
    assert not is_quiet(worker(master))


def test_a_waiting_master_has_hardly_any_memory_of_its_own(new_births):
    host = new_births(NAMESPACES)
    names = [f"a{number}" for number in range(4)]
    for name in names:
        host.vassal(name, "uid = 20001\n")
    masters = [host.born(name) for name in names]
    assert all(map(is_quiet, masters))
    assert max(map(private_memory, masters)) < QUIET_MEMORY


def alike(pids, name):
    """The facts of workers, equal ones once."""
    every = [worker_facts(pid, name) for pid in pids]
    return [one for index, one in enumerate(every) if one not in every[:index]]


def test_several_workers_are_children_of_a_waiting_master(host):
    host.pair("three", "uid = 20001\nprocesses = 3\n")
    found = []
    for kind in ("plain", "other"):
        master = host.born(f"three-{kind}")
        wait_for(lambda m=master: len(children(m)) == 3, "three workers")
        name = f"three-{kind}"
        wait_for(lambda m=master, n=name: len(alike(children(m), n)) == 1, "workers alike")
        every = alike(children(master), name)
        found.append(every)
        assert is_quiet(master) is (kind == "plain")
    assert found[0] == found[1]


def test_a_bound_of_the_operator_holds_for_plain_vassals(new_births):
    host = new_births()
    host.pair("bound", "")
    host.pair("user", "uid = 20001\n")
    host.start("emperor-cap = setuid,setgid,net_bind_service\n")
    bound = same(host, "bound")
    assert int(str(bound["CapBnd"]), 16) == 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10
    assert same(host, "user")["CapEff"] == "0" * 16


def test_a_vassal_in_a_user_namespace_is_the_same(new_births):
    host = new_births()
    host.pair("a", "uid = 20001\ngid = 20001\n")
    host.start("emperor-use-clone = user,uts,pid,fs\n")
    assert same(host, "a")["Uid"] == "\t".join(["20001"] * 4)


def test_a_limit_that_the_kernel_refuses_is_left_to_the_interpreter_which_goes_on(new_births):
    host = new_births()
    host.pair("a", "uid = 20001\nmax-fd = 2000000000\nprio = 3\n")
    host.start(NAMESPACES)
    assert same(host, "a", plain=False)["nice"] == "3"
    host.said("max-fd: 2000000000", 2)


def test_a_tyrants_vassal_is_the_same(new_births):
    host = new_births()
    host.start("emperor-tyrant = true\n")
    for name in host.pair("a", "env = A=1\n"):
        os.chown(host.place / "vassals" / f"{name}.ini", 20001, 20002)
    assert same(host, "a")["Gid"] == "\t".join(["20002"] * 4)


def test_a_worker_dies_with_its_waiting_master(new_births):
    host = new_births("")
    host.vassal("a", "uid = 20001\n")
    host.vassal("b", "uid = 20001\nprocesses = 2\n")
    for name in ("a", "b"):
        master = host.born(name)
        wait_for(
            lambda name=name, m=master: len(children(m)) == (2 if name == "b" else 1), "workers"
        )
        below = children(master)
        os.kill(master, 9)
        wait_for(lambda below=below: not any(map(alive, below)), "end of the workers")


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        ("net_bind_service", "uid = 20001\n"),
        ("net_bind_service", "gid = 20001\n"),
        ("setuid,setgid", "uid = 20001\ncap = sys_admin\n"),
        ("setuid,setgid", "uid = 20001\nprio = -5\n"),
    ],
    ids=["uid", "gid", "cap", "prio"],
)
def test_what_the_bound_forbids_fails_in_the_same_words(new_births, bound, text):
    host = new_births()
    names = host.pair("a", text)
    host.start(f"emperor-cap = {bound}\n")
    errors = [host.error(name) for name in names]
    assert errors[0].replace("a-plain", "a-other") == errors[1]
    assert "\n" not in errors[0]
    assert not [row for row in host.stats()["vassals"] if row["ready"]]
