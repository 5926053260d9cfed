"""What is looked at from the host, where a jail cannot lie. Each look returns what got through."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from typing import Any

import hosting

CELL, NEIGHBOUR = "cell", "neighbour"


def descriptors(found: Any, cell: Any) -> list[str]:
    """Whether the worker holds sockets and pipes only."""
    links = hosting.held(cell.worker())
    odd = [
        link
        for number, link in links.items()
        if number > 2 and link.partition(":")[0] not in ("socket", "pipe", "anon_inode")
    ]
    files = [link for link in links.values() if link.startswith("/") and link[-5:] != "/null"]
    return odd + files + ([f"{len(links)} descriptors"] if len(links) >= 20 else [])


def separate_namespaces(found: Any, cell: Any) -> list[str]:
    """Whether the two vassals share none of the namespaces that the operator asked for."""
    pids = [cell.master(CELL), cell.master(NEIGHBOUR)]
    shared = []
    for kind in cell.profile.kinds:
        seen = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in (*pids, "self")}
        shared += [kind] if len(seen) != 3 else []
    return shared


def init_is_safe(found: Any, cell: Any) -> list[str]:
    """Whether the first process survives the signals that cannot be caught."""
    pid = cell.master(CELL)
    cell.py("D50-init")
    state = hosting.status(pid)["State"][0]
    return [] if cell.master(CELL) == pid and state == "S" else [f"state {state}"]


def kill_everybody(found: Any, cell: Any) -> list[str]:
    """Whether only the jail's own processes die, and it serves again."""
    others = {pid: hosting.alive(pid) for pid in cell.processes(NEIGHBOUR)}
    worker = cell.worker()
    cell.hit("c/kill-everybody")
    hosting.wait_for(lambda: not hosting.alive(worker), "the end of the worker")
    cell.wait_for_answer(CELL)
    return [
        f"{pid} of the neighbour" for pid, was in others.items() if was and not hosting.alive(pid)
    ]


def _statuses(cell: Any) -> dict[int, dict[str, str]]:
    return {pid: hosting.status(pid) for pid in cell.processes(CELL)}


def all_without_privileges(found: Any, cell: Any) -> list[str]:
    """Whether no process of the jail can gain privileges by executing something."""
    return [f"{pid}" for pid, one in _statuses(cell).items() if one["NoNewPrivs"] != "1"]


def all_filtered(found: Any, cell: Any) -> list[str]:
    """Whether every process of the jail has a filter of system calls."""
    return [f"{pid}" for pid, one in _statuses(cell).items() if one["Seccomp"] != "2"]


def all_in_the_group(found: Any, cell: Any) -> list[str]:
    """Whether every process of the jail, an executed one too, is in its control group."""
    if not cell.groups:
        return []
    odd = []
    for pid in cell.processes(CELL):
        with open(f"/proc/{pid}/cgroup") as file:
            text = file.read()
        odd += [
            f"{pid} is not in {g}" for g in cell.groups if f":/{g.partition('/')[2]}\n" not in text
        ]
    lines = list(cell.c("cgroup").values())
    wanted = {group.partition("/")[2] for group in cell.groups}
    odd += [] if wanted <= {line.rpartition(":")[2].lstrip("/") for line in lines} else lines
    return odd


def limits_hold(found: Any, cell: Any) -> list[str]:
    """Whether the limits are what the operator wrote."""
    return [
        f"{path}: {now}" for path, wanted in cell.limits.items() if (now := _read(path)) != wanted
    ]


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def mounts_do_not_travel(found: Any, cell: Any) -> list[str]:
    """Whether a mount of the host below a shared directory stays out, and goes away with it.

    The Emperor's mounts are shared, as systemd's hosts have them.
    """
    point = cell.place / "sockets" / "mounted"
    point.mkdir(exist_ok=True)
    enter = ["nsenter", f"--mount=/proc/{cell.host.pid}/ns/mnt"]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "none", str(point)], check=True)
    try:
        inside = [mount for _, mount, _ in cell.py("B12-mounts") if mount == str(point)]
    finally:
        subprocess.run([*enter, "umount", str(point)], check=True)
        point.rmdir()
    return inside


def ipc_is_private(found: Any, cell: Any) -> list[str]:
    """Whether a neighbour cannot find what the cell made under the same key."""
    key = str(os.getpid())
    made = cell.c("ipc", "make", key)
    seen = cell.c("ipc", "find", key, of=NEIGHBOUR)
    assert made["shared memory"] == "done", made
    return [f"{name}: {said}" for name, said in seen.items() if said == "done"]


def keys_are_private(found: Any, cell: Any) -> list[str]:
    """Whether a neighbour with the same uid cannot find a key of the cell's."""
    name = f"donjon-{os.getpid()}"
    cell.c("keyring", "add", name)
    seen = cell.c("keyring", "find", name, of=NEIGHBOUR)
    return [f"{seen}"] if seen["user"] == "done" else []


def abstract_sockets(found: Any, cell: Any) -> list[str]:
    """Whether an abstract socket of the host's is out of reach."""
    name = f"donjon-escape-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        said = cell.c("connect", f"@{name}")
    return [f"{said}"] if "done" in said.values() else []


def _entered(cell: Any, *words: str) -> dict[str, str]:
    """What the C program finds when the operator runs it in the cell."""
    done = cell.enter(str(cell.place / "app" / "probe"), *words)
    assert done.returncode == 0, done.stderr
    facts: dict[str, str] = json.loads(done.stdout)["facts"]
    return facts


def enters_with_nothing(found: Any, cell: Any) -> list[str]:
    """Whether a command that enters has no descriptor beyond its input and output."""
    return [f"{name}: {said}" for name, said in _entered(cell, "descriptors").items()]


def enters_as_the_vassal(found: Any, cell: Any) -> list[str]:
    """Whether a command that enters has ids, sets and filter of the worker, and is in its groups
    or in the one for guests below."""
    inside, worker = _entered(cell, "ids"), hosting.status(cell.worker())
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    odd = [f"{name}: {inside[name]}" for name in names if inside[name] != worker[name]]
    own = cell.c("ids")
    odd += [
        f"{name}: {inside[name]}" for name in ("Uid", "Gid", "Groups") if inside[name] != own[name]
    ]
    guest = [one.removesuffix("/shell") for one in _entered(cell, "cgroup").values()]
    same = sorted(guest) == sorted(cell.c("cgroup").values())
    return odd if same else [*odd, "control groups"]


def spy_on_newcomers(found: Any, cell: Any) -> list[str]:
    """Whether a process of the jail never opens one that enters before it is the jail's own."""
    said: list[dict[str, str]] = []
    program = str(cell.place / "app" / "probe")
    spy = threading.Thread(target=lambda: said.append(cell.c("spy", "4", program)))
    spy.start()
    entered = 0
    while spy.is_alive():
        entered += cell.enter(program, "cgroup").returncode == 0
    spy.join()
    assert entered, "nobody entered"
    assert int(said[0].pop("newcomers")), "the spy saw nobody"
    return [f"{name}: {how}" for name, how in said[0].items()]


def directory_exchange(found: Any, cell: Any) -> list[str]:
    """Whether a directory that a neighbour hands over gives nothing."""
    path = str(cell.place / "sockets" / "exchange")
    giver = threading.Thread(target=cell.py, args=("B23-give", path), kwargs={"of": NEIGHBOUR})
    giver.start()
    try:
        hosting.wait_for(lambda: os.path.exists(path), "the neighbour's socket")
        said = cell.py("B23-take", path)
    finally:
        giver.join()
        os.unlink(path)
    return [] if said in ("EACCES", "EPERM") else [said]
