"""An Emperor whose vassals are a few lines: ``little_emperor.py SPEC`` with an EmperorSpec in JSON.

A vassal's file says what it does: ``say = 1,5`` sends those bytes, ``then = exit 3``, ``stay``, ``stubborn``,
``flood`` or ``hang-up`` follows, ``speak = TEXT`` is logged, and ``record = FILE`` gets a JSON line for each
thing that happens to it.
"""

import importlib
import json
import os
import pickle
import select
import signal
import sys
from typing import NoReturn

from donjon.config.spec import EmperorSpec
from donjon.emperor import loop
from donjon.emperor.birth import Birth
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.origin import DEFAULT
from donjon.tuntap.federation import peer


def keys(launch) -> dict[str, str]:
    return dict(launch.server.options)


def record(words: dict[str, str], **facts: object) -> None:
    if "record" in words:
        with open(words["record"], "a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def read_launch(fd: int):
    size = int.from_bytes(os.read(fd, 4), "little")
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return pickle.loads(data)


def entry(birth: Birth) -> NoReturn:
    words = keys(birth.launch)
    fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    record(
        words,
        event="start",
        pid=os.getpid(),
        uid=os.getuid(),
        gid=os.getgid(),
        groups=os.getgroups(),
        cwd=os.getcwd(),
        argv=birth.argv,
        born_in=sorted(birth.born_in),
        environ=dict(os.environ),
        fds=[fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")],
        marker=words.get("marker", ""),
    )
    if "fail" in words:
        os.write(birth.error_fd, words["fail"].encode())
        os._exit(1)
    os.close(birth.error_fd)
    if "speak" in words:
        print(words["speak"], flush=True)
    for byte in filter(None, words.get("say", "1,5").split(",")):
        os.write(birth.emperor_fd, bytes([int(byte)]))
    then = words.get("then", "stay")
    if then.startswith("exit"):
        os._exit(int(then.split()[1]))
    if then == "hang-up":
        os.close(birth.emperor_fd)
        signal.pause()
    if then == "flood":
        os.set_blocking(birth.emperor_fd, True)
        while True:
            os.write(birth.emperor_fd, bytes(range(256)))
    listen(birth, words, then)


def listen(birth: Birth, words: dict[str, str], then: str) -> NoReturn:
    while True:
        select.select([birth.emperor_fd], [], [])
        data = os.read(birth.emperor_fd, 1)
        record(words, event="byte", value=list(data))
        if not data:
            os._exit(1)
        if data == b"\1":
            words = keys(read_launch(birth.launch_fd))
            record(words, event="launch", marker=words.get("marker", ""))
            for byte in filter(None, words.get("say", "1,5").split(",")):
                os.write(birth.emperor_fd, bytes([int(byte)]))
        elif then != "stubborn":
            os._exit(0)


def main() -> int:
    fields = json.loads(sys.argv[1])
    hooks = [Hook(Phase(p), Kind(k), text) for p, k, text in fields.pop("hooks", [])]
    upper = fields.pop("upper", None)
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = frozenset(value) if name in ("use_clone", "cap") else tuple(value)
    if "network_peers" in fields:  # as lines of a file
        read = map(peer.parse_peer, fields["network_peers"])
        fields["network_peers"] = tuple(peer.peer(one, DEFAULT) for one in read)
    argv0 = tuple(fields.pop("argv0", ("donjon",)))
    spec = EmperorSpec(**fields)
    born = importlib.import_module("little_emperor").entry  # by a name that others can import
    return loop.run(spec, entry=born, hooks=hooks, argv0=argv0, emperor_link=upper)


if __name__ == "__main__":
    sys.exit(main())
