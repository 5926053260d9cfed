"""The TunTap router beside uWSGI's, slirp4netns, pasta and plain veth, in namespaces of its own.

    sudo .venv/bin/python benchmarks/tuntap.py [--seconds 2] [--ports 10 100 1000] [--json]

Each contender joins two network namespaces, host and jail; iperf3 runs in both ends, TCP from the
jail (``up``) and to it (``down``), one and four streams, at MTU 1500 and at the largest that the
contender has; ping measures 200 round trips, of which the median counts. slirp4netns and pasta
translate to the host's loopback, so their ``down`` is the jail that receives on a connection of
its own. For the ports that many jails are attached, and one of them works. What a peer cannot do
is "-". ``user`` processes share the machine's processors with both ends of iperf3.
At the end, what is left of a jail's round trips beside a flood.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from netspaces import Space, four
from routed import ALLOW_ALL, Routed, routed

from donjon.origin import DEFAULT
from donjon.tuntap.rules import Names, classic, compile_rules

GATEWAY = four(1)
JAIL = four(2)
SPEC_OUT = ("allow {net} {gw}", "deny {net} {net}", "allow {net} 0.0.0.0", "deny")
SPEC_IN = ("allow {gw} {net}", "deny {net} {net}", "allow 0.0.0.0 {net}", "deny")
UWSGI_WORDS = ["uwsgi", "--plugin", "tuntap", "--master", "--socket", "127.0.0.1:0"]
Row = dict[str, float | None]


@dataclass(frozen=True)
class Pair:
    """Two joined namespaces: the jail reaches the host at ``address``."""

    host: Space
    jail: Space
    address: str


def spec_rules() -> bytes:
    """Return the table of the specification's eight lines."""
    words = {"net": "10.7.0.0/16", "gw": GATEWAY}
    incoming = [(line.format(**words), DEFAULT) for line in SPEC_IN]
    outgoing = [(line.format(**words), DEFAULT) for line in SPEC_OUT]
    return compile_rules(classic.chains(incoming, outgoing), Names()).table


@contextlib.contextmanager
def donjon(mtu: int, jails: int = 1, table: bytes = ALLOW_ALL) -> Iterator[Pair]:
    """Join by donjon's router, with so many jails attached."""
    with routed(mtu) as router:
        router.client.rules(table)
        jail = router.jail(2)
        fill(router, jails - 1)
        yield Pair(router.host, jail, GATEWAY)


def fill(router: Routed, count: int) -> None:
    """Attach idle jails; their devices are in one namespace."""
    space = router.space() if count else router.host
    for number in range(3, 3 + count):
        with space.open_tun(f"t{number}") as tun:
            router.client.attach(str(number), tun.fileno(), [four(number)])


@contextlib.contextmanager
def two() -> Iterator[tuple[Space, Space]]:
    """Make two namespaces."""
    host, jail = Space(), Space()
    try:
        yield host, jail
    finally:
        jail.close()
        host.close()


@contextlib.contextmanager
def veth(mtu: int) -> Iterator[Pair]:
    """Join by the kernel alone."""
    with two() as (host, jail):
        host.run(
            "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", str(jail.pid)
        )
        host.up("v0", f"{GATEWAY}/16", mtu=mtu)
        jail.up("v0", f"{JAIL}/16", mtu=mtu)
        yield Pair(host, jail, GATEWAY)


@contextlib.contextmanager
def running(*commands: list[str]) -> Iterator[None]:
    """Run programs beside."""
    quiet = subprocess.DEVNULL
    with contextlib.ExitStack() as stack:
        for command in commands:
            child = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
            stack.callback(child.wait)
            stack.callback(lambda pid=child.pid: os.killpg(pid, signal.SIGKILL))
            time.sleep(1)
        yield


@contextlib.contextmanager
def uwsgi(mtu: int) -> Iterator[Pair]:
    """Join by the original's router and device."""
    with two() as (host, jail), tempfile.TemporaryDirectory() as place:
        for space in (host, jail):
            space.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
        identity = ["--uid", "65534", "--gid", "65534"]
        router = ["--tuntap-router", f"e0 {place}/s"]
        device = ["--jailed", "--tuntap-device", f"u0 {place}/s"]
        with running(
            host.command(*UWSGI_WORDS, *identity, *router),
            jail.command(*UWSGI_WORDS, *identity, *device),
        ):
            host.up("e0", f"{GATEWAY}/16", mtu=mtu)
            jail.up("u0", f"{JAIL}/16", mtu=mtu)
            yield Pair(host, jail, GATEWAY)


@contextlib.contextmanager
def slirp4netns(mtu: int) -> Iterator[Pair]:
    """Join by slirp4netns: the host's loopback is 10.0.2.2."""
    with two() as (host, jail):
        command = ["slirp4netns", "--configure", f"--mtu={mtu}", str(jail.pid), "tap0"]
        with running(host.command(*command)):
            yield Pair(host, jail, "10.0.2.2")


@contextlib.contextmanager
def pasta(mtu: int) -> Iterator[Pair]:
    """Join by pasta: the host is its gateway."""
    with two() as (host, jail):
        host.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        host.run("ip", "link", "set", "d1", "up")
        host.up("d0", "10.99.0.2/24", mtu=mtu)
        host.run("ip", "route", "add", "default", "via", "10.99.0.1", "dev", "d0")
        command = ["pasta", "--config-net", "-f", "--runas", "0", "-m", str(mtu), "-4"]
        with named(jail) as netns, running(host.command(*command, "--netns", netns)):
            yield Pair(host, jail, "10.99.0.1")


@contextlib.contextmanager
def named(space: Space) -> Iterator[str]:
    """Give a namespace a path, which pasta can open without rights over the process in it."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "net")
        path.touch()
        subprocess.run(["mount", "--bind", f"/proc/{space.pid}/ns/net", path], check=True)
        try:
            yield str(path)
        finally:
            subprocess.run(["umount", path], check=True)


def iperf(pair: Pair, seconds: float, *words: str) -> float | None:
    """Return Gbit/s of TCP, or None where it failed."""
    server = pair.host.command("iperf3", "-s", "-1", "--forceflush")
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        while "listening" not in one.stdout.readline():
            pass
        client = pair.jail.command("iperf3", "-c", pair.address, "-J", "-t", str(seconds), *words)
        try:
            done = subprocess.run(
                client, capture_output=True, text=True, check=False, timeout=seconds + 10
            )
            answer = json.loads(done.stdout)["end"]
        except (ValueError, KeyError, subprocess.TimeoutExpired):
            answer = {}
        one.kill()
    if "-u" in words:
        total = answer.get("sum", {})
        packets = total.get("packets", 0) * (1 - total.get("lost_percent", 100) / 100)
        return round(packets / seconds / 1000, 1)  # thousands a second
    rate = answer.get("sum_received", {}).get("bits_per_second")
    return round(rate / 1e9, 2) if rate else None


def round_trip(pair: Pair) -> float | None:
    """Return the median round trip, milliseconds."""
    found = times(pair.jail, pair.address, 200, "0.01")
    return round(statistics.median(found), 3) if found else None


def times(space: Space, address: str, count: int, interval: str) -> list[float]:
    """Return round trips in milliseconds, in order of their length."""
    text = space.run("ping", "-c", str(count), "-i", interval, address, check=False)
    lines = [line for line in text.splitlines() if "time=" in line]
    return sorted(float(line.split("time=")[1].split()[0]) for line in lines)


@contextlib.contextmanager
def flood(server: Space, client: Space, address: str) -> Iterator[None]:
    """Send as many small datagrams as can be, out of ``client``.

    Both programs yield to everything else: what they do to others they do with their packets.
    """
    idle = ("chrt", "--idle", "0", "iperf3")
    words = (*idle, "-c", address, "-u", "-b", "0", "-l", "64", "-t", "3600")
    with running(server.command(*idle, "-s", "-1"), client.command(*words)):
        yield


def neighbours(seconds: float) -> dict[str, Row]:
    """Return a jail's round trips: alone, beside a flood elsewhere, beside a neighbour's flood.

    The flood elsewhere goes over veth: what it costs is the want of processors, not the router.
    """

    def seen(space: Space) -> Row:
        found = times(space, GATEWAY, int(seconds * 500), "0.002")
        middle, late = found[len(found) // 2], found[len(found) * 99 // 100]
        return {"median ms": round(middle, 3), "p99 ms": round(late, 3)}

    with routed(1500) as router, veth(1500) as elsewhere:
        jail, other = router.jail(2), router.jail(3)
        rows = {"alone": seen(jail)}
        with flood(elsewhere.host, elsewhere.jail, GATEWAY):
            rows["a flood elsewhere"] = seen(jail)
        with flood(router.host, other, GATEWAY):
            rows["a neighbour's flood"] = seen(jail)
    return rows


def measure(join: Callable[[], contextlib.AbstractContextManager[Pair]], seconds: float) -> Row:
    """Return all figures of one contender."""
    with join() as pair:
        return {
            "up": iperf(pair, seconds),
            "down": iperf(pair, seconds, "-R"),
            "up 4": iperf(pair, seconds, "-P", "4"),
            "down 4": iperf(pair, seconds, "-P", "4", "-R"),
            "udp kpps": iperf(pair, seconds, "-u", "-b", "0", "-l", "64"),
            "rtt ms": round_trip(pair),
        }


def contenders(
    ports: list[int],
) -> dict[str, Callable[[], contextlib.AbstractContextManager[Pair]]]:
    """Return what is measured, in this order."""
    table: dict[str, Callable[[], contextlib.AbstractContextManager[Pair]]] = {
        "veth, 1500": lambda: veth(1500),
        "donjon, 1500": lambda: donjon(1500),
        "donjon, 1500, spec's firewall": lambda: donjon(1500, table=spec_rules()),
        "uWSGI, 1500": lambda: uwsgi(1500),
        "slirp4netns, 1500": lambda: slirp4netns(1500),
        "slirp4netns, 65520": lambda: slirp4netns(65520),
        "pasta, 65520": lambda: pasta(65520),
        "donjon, 65520": lambda: donjon(65520),
        "veth, 65520": lambda: veth(65520),
    }
    for count in ports:
        table[f"donjon, 1500, {count} jails"] = lambda count=count: donjon(1500, count)
    return table


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--ports", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {}
    for name, join in contenders(options.ports).items():
        rows[name] = measure(join, options.seconds)
        if not options.json:
            cells = (
                f"{key} {'-' if value is None else value}" for key, value in rows[name].items()
            )
            print(f"{name:32}", " | ".join(cells), flush=True)
    for name, row in neighbours(options.seconds).items():
        rows[f"round trips, {name}"] = row
        if not options.json:
            print(f"{'round trips, ' + name:32}", " | ".join(f"{k} {v}" for k, v in row.items()))
    if options.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
