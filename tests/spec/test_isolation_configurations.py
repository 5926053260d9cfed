"""The command lines and files of the pages on namespaces, pivot_root, cgroups and capabilities, whole.

Paths, ports and user names are this machine's. Those with details of their own are in test_isolation_pages.
"""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import hosting
import pytest
import wsgi_worker

pytestmark = [pytest.mark.root, pytest.mark.slow]

ALL = ["ipc", "mnt", "net", "pid", "uts"]


@contextlib.contextmanager
def instance(place, *words):
    """Run one instance where its application is; SIGINT must end it (SIGTERM is a reload)."""
    with (place / "instance.log").open("ab") as log:
        process = subprocess.Popen(
            [*hosting.DONJON, *map(str, words)],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@pytest.fixture
def groups():
    """Where groups go. An instance without an Emperor leaves them, as the original does."""
    name = f"donjon-spec-{os.getpid()}"
    yield name
    for top in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        for group in [*top.iterdir(), top]:
            if group.is_dir():
                hosting.wait_for(
                    lambda one=group: not (one / "cgroup.procs").read_text(), "its end"
                )
                group.rmdir()


def ask_uwsgi(address):
    """What the application answers over the uwsgi protocol."""
    variables = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.0"}
    return wsgi_worker.body_of(hosting.receive(address, wsgi_worker.packet(variables)))


def waited(place, look, what):
    try:
        return hosting.wait_for(look, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(place / 'instance.log').read_text()}") from None


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def below(pid):
    return [pid, *hosting.descendants(pid)]


@pytest.mark.parametrize("words", ["fs,net,ipc,pid,uts", "fs,ipc,pid,uts", "pid,uts"])
def test_b065_b066_b145_an_emperor_that_uses_clone(host, words):
    host.vassal("shop", "uid = 33\ngid = 33\n")
    host.start(f"emperor-use-clone = {words}\n")
    host.answer("shop")
    wanted = sorted("mnt" if word == "fs" else word for word in words.split(","))
    assert hosting.own_namespaces(host.master("shop")) == wanted


def test_b067_ens_05_a_vassal_that_sets_its_name_and_remounts_proc(host):
    name = os.uname().nodename
    host.vassal(
        "shop",
        "exec-as-root = hostname foobar\nexec-as-root = umount /proc\n"
        "exec-as-root = mount -t proc none /proc\nuid = 33\ngid = 33\n",
    )
    host.start("emperor-use-clone = fs,ipc,pid,uts\n")
    facts = host.answer("shop")
    assert facts["hostname"] == "foobar"
    assert max(facts["processes"]) < 20
    assert os.uname().nodename == name


@pytest.mark.parametrize("kind", ["privileged", "unprivileged"])
def test_b069_b070_another_command_in_a_vassals_place(host, kind):
    out = host.place / "sockets" / "out"
    (host.place / "vassals" / "special.ini").write_text(
        "[uwsgi]\nuid = 1000\ngid = 1000\nunshare = net\n"
        f'{kind}-binary-patch-arg = id -u > {out}.new; mv {out}.new {out}; exec sleep "600"\n'
    )
    host.start("emperor-curse-tolerance = 1\n")
    uid = hosting.wait_for(lambda: out.read_text().strip(), "the command")
    assert uid == {"privileged": "0", "unprivileged": "1000"}[kind]


@pytest.mark.cgroup1
def test_b080_an_instance_in_a_cgroup(host, groups):
    group = Path(f"/sys/fs/cgroup/cpu/{groups}/jail001")
    port = free_port()
    words = ("-M", "-p", 8, "--cgroup", group, "-w", "app", "-m", "--http", f"127.0.0.1:{port}")
    with instance(host.place, *words) as pid:
        waited(
            host.place,
            lambda: socket.create_connection(("127.0.0.1", port)).close() is None,
            "http",
        )
        waited(host.place, lambda: len(hosting.descendants(pid)) >= 8, "its workers")
        inside = {int(line) for line in (group / "cgroup.procs").read_text().split()}
        assert set(below(pid)) <= inside


@pytest.mark.cgroup1
@pytest.mark.parametrize("memory", [None, (268435456, 268435456, 536870912, 1067459584)])
def test_b081_b082_customers_by_the_command_line(host, groups, memory):
    base = groups
    host.place.chmod(0o777)
    with contextlib.ExitStack() as stack:
        pids = []
        for number, shares in enumerate((125, 125, 250, 500)):
            uid = 1001 + number
            words = ["--uid", uid, "--gid", uid, "-s", host.place / f"app{number}", "-w", "app"]
            words += ["--cgroup", f"/sys/fs/cgroup/cpu/{base}/app{number}"]
            words += ["--cgroup-opt", f"cpu.shares={shares}"]
            if memory:
                words += ["--cgroup", f"/sys/fs/cgroup/memory/{base}/app{number}"]
                words += ["--cgroup-opt", f"memory.limit_in_bytes={memory[number]}"]
            pids.append(stack.enter_context(instance(host.place, *words)))
        for number, shares in enumerate((125, 125, 250, 500)):
            address = host.place / f"app{number}"
            waited(
                host.place, lambda address=address: ask_uwsgi(address), f"answer of app{number}"
            )
            cpu = Path(f"/sys/fs/cgroup/cpu/{base}/app{number}")
            assert (cpu / "cpu.shares").read_text().strip() == str(shares)
            assert set(map(str, below(pids[number]))) <= set(
                (cpu / "cgroup.procs").read_text().split()
            )
            assert hosting.status(pids[number])["Uid"].split() == [str(1001 + number)] * 4
            if memory:
                limit = Path(f"/sys/fs/cgroup/memory/{base}/app{number}/memory.limit_in_bytes")
                assert int(limit.read_text()) == memory[number] // 4096 * 4096


def test_b034_an_ipc_namespace_for_one_customer(host):
    socket_path = host.place / "sockets" / "one"
    with instance(
        host.place, "--unshare", "ipc", "-s", socket_path, "-w", "app", "--uid", 33
    ) as pid:
        waited(host.place, lambda: ask_uwsgi(socket_path), "answer")
        assert hosting.own_namespaces(pid) == ["ipc"]


def test_b110_customers_with_limits_of_address_space(host):
    host.place.chmod(0o777)
    with contextlib.ExitStack() as stack:
        for number, (processes, limit) in enumerate(((3, 128), (3, 128), (6, 96))):
            uid, port = 1001 + number, free_port()
            words = (
                "--uid",
                uid,
                "-w",
                "app",
                "--limit-as",
                limit,
                "-p",
                processes,
                "-M",
                "-s",
                f"127.0.0.1:{port}",
            )
            pid = stack.enter_context(instance(host.place, *words))
            look = socket.create_connection
            waited(
                host.place,
                lambda port=port, look=look: look(("127.0.0.1", port)).close() is None,
                "socket",
            )
            waited(
                host.place, lambda pid=pid, n=processes: len(hosting.children(pid)) == n, "workers"
            )
            for each in hosting.children(pid):
                text = Path(f"/proc/{each}/limits").read_text()
                line = next(
                    one for one in text.splitlines() if one.startswith("Max address space")
                )
                assert line.split()[3] == str(limit << 20)
                assert hosting.status(each)["Uid"].split()[0] == str(uid)


def test_b086_pivot_root_leaves_the_old_tree_where_it_was_asked(host):
    ns = host.place / "ns"
    ns.mkdir()
    host.vassal(
        "shop",
        f"unshare = fs\nhook-post-jail = mount:none / {ns} bind\n"
        f"pivot_root = {ns} {ns}/mnt\nuid = 33\ngid = 33\n",
    )
    host.start()
    host.answer("shop")
    root = Path(f"/proc/{host.master('shop')}/root")
    assert (root / "mnt" / "usr" / "bin").is_dir()
    assert (root / f"mnt/{host.place}/ns").is_dir()


@pytest.mark.parametrize("form", ["{jail}/nfs", "{share}:/nfs"], ids=["b089", "b090"])
def test_b089_b090_mounts_that_an_old_namespace_keeps(host, form):
    jail, share, out = host.place / "app1", host.place / "nfs1", host.place / "app1" / "out"
    for name in ("proc", "nfs", "usr", "lib", "lib64", "bin"):
        (jail / name).mkdir(parents=True)
    share.mkdir()
    (share / "file").write_text("x")
    keep = form.format(jail=jail, share=share)
    keeps = [
        f"--namespace-keep-mount={path}:{path}" for path in ("/usr", "/lib", "/lib64", "/bin")
    ]
    act = "cat /nfs/file > /out.new; mv /out.new /out; exit 1"
    words = [
        f"--namespace={jail}",
        f"--namespace-keep-mount={keep}",
        *keeps,
        f"--exec-as-root={act}",
    ]
    mount = f"mount --bind {share} {jail}/nfs && " if ":" not in keep else ""
    script = f'{mount}exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *hosting.DONJON, "--master", *words]
    done = subprocess.run(command, cwd=host.place, capture_output=True, timeout=60, check=False)
    assert out.exists(), done.stderr
    assert out.read_text() == "x"
    assert not [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(jail) in line
    ]
