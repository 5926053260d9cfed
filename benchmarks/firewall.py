"""What the firewall costs a packet: ``firewall.py [--checks N] [--rounds N] [--check]``.

Nanoseconds of processor time of one ``firewall_check``, the best of some rounds: the evaluator
alone, asked from one loop in C, with the packets of 64 flows in turn. No rules; the 4+4 of the
specification; 1,000 rules that look at ports, with packets of established connections and with
packets that walk them all. ``--check`` fails where 1,000 rules cost an established connection more
than twice what one rule does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from donjon.origin import Origin
from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow
from donjon.tuntap.rules import Ruleset, classic, compile_rules, parse

FLOWS = 64
BAR = 2.0
IN, OUT = False, True
INSIDE = ip_address("192.168.0.2")
OUTSIDE = ip_address("198.51.100.7")
SYN, ANSWER, ACK = 2, 18, 16
SPECIFICATION = (
    "allow 192.168.0.0/24 192.168.0.1",
    "deny 192.168.0.0/24 192.168.0.0/24",
    "allow 192.168.0.0/24 0.0.0.0",
    "deny",
)


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    firewall: Firewall
    flows: tuple[Flow, ...]


def packets(flags: int) -> tuple[Flow, ...]:
    """Packets of as many flows from a jail to the outside."""
    flow = Flow(INSIDE, OUTSIDE, 6, 0, 443, length=1500, from_jail=1, tcp_flags=flags)
    return tuple(replace(flow, source_port=40000 + number) for number in range(FLOWS))


def answered(firewall: Firewall) -> Firewall:
    """Let each flow open its connection and be answered."""
    for flow in packets(SYN):
        answer = replace(
            flow,
            source=flow.destination,
            destination=flow.source,
            source_port=flow.destination_port,
            destination_port=flow.source_port,
            from_jail=0,
            to_jail=1,
            tcp_flags=ANSWER,
        )
        firewall.check(OUT, flow.pack(), 1)
        firewall.check(IN, answer.pack(), 1)
    return firewall


def loaded(ruleset: Ruleset) -> Firewall:
    """A firewall with these rules in force."""
    return Firewall(compile_rules(ruleset).table)


def walked(count: int) -> Ruleset:
    """As many rules that look at ports and do not match, between state and the last word."""
    refused = [f"out daddr 10.{n // 250}.{n % 250}.0/24 tcp dport 25 drop" for n in range(count)]
    lines = ["in ct state established accept", *refused, "out ct state new,established accept"]
    return parse("\n".join(lines), "benchmark")


def no_state(count: int) -> Ruleset:
    """As many rules that look at addresses only, and do not match."""
    lines = [f"out daddr 10.{n // 250}.{n % 250}.0/24 drop" for n in range(count)]
    return parse("\n".join(["policy out accept", *lines]), "benchmark")


def cases() -> Iterable[Case]:
    """All rows."""
    origin = Origin("benchmark")
    chains = classic.chains((), [(text, origin) for text in SPECIFICATION])
    yield Case("no rules", loaded(parse("policy out accept", "benchmark")), packets(ACK))
    yield Case("the specification's 4+4", loaded(chains), packets(ACK))
    yield Case("1 rule, established", answered(loaded(walked(1))), packets(ACK))
    yield Case("1,000 rules, established", answered(loaded(walked(1000))), packets(ACK))
    refused = tuple(replace(flow, tcp_flags=SYN | ACK) for flow in packets(ACK))
    yield Case("1,000 rules, walked to the end", loaded(walked(1000)), refused)
    yield Case("1,000 rules without state, walked", loaded(no_state(1000)), packets(ACK))


def measure(case: Case, checks: int, rounds: int) -> float:
    """Return nanoseconds a packet."""
    packed = b"".join(flow.pack() for flow in case.flows)
    case.firewall.check_many(OUT, packed, FLOWS * 2, 2)
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        case.firewall.check_many(OUT, packed, checks, 2)
        times.append((time.process_time_ns() - start) / checks)
    return min(times)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checks", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    results = {}
    print("| rules | ns a packet |\n|---|---|")
    for case in cases():
        results[case.name] = measure(case, arguments.checks, arguments.rounds)
        print(f"| {case.name} | {results[case.name]:.0f} |", flush=True)
    ratio = results["1,000 rules, established"] / results["1 rule, established"]
    return 1 if arguments.check and ratio > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
