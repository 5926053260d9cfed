"""What an Emperor counts as OpenMetrics, for ``donjon net`` and ``donjon ls``.

The text is prometheus_client's; here is which values there are, under which names. It is made in
the process of the verb: the Emperor only answers with values, as for ``--json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest

from donjon.emperor.vassal import State

Row = Mapping[str, Any]


class _Found:
    """Families that are there already, as a collector."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        return iter(self._families)


def show(families: Sequence[Metric]) -> None:
    """Print families as OpenMetrics 1.0."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(families))
    write: Callable[[CollectorRegistry], bytes] = generate_latest
    sys.stdout.write(write(registry).decode())


# -- networks


def networks(found: Row) -> list[Metric]:
    """Return what an answer to ``net`` with rules has."""
    rows = [row for row in found["vassals"] if row["counters"] is not None]
    return [*_passed(rows), *_dropped(rows), *_rules(found), *_router(found)]


def _passed(rows: Sequence[Row]) -> Iterator[Metric]:
    labels = ("vassal", "direction")
    packets = CounterMetricFamily(
        "donjon_network_packets",
        "IP packets of a vassal; a large packet of an offload counts as one.",
        labels=labels,
    )
    size = CounterMetricFamily(
        "donjon_network_bytes", "Bytes of IP packets of a vassal.", labels=labels, unit="bytes"
    )
    for row in rows:
        for direction in ("out", "in"):
            passed = row["counters"][direction]
            packets.add_metric((row["name"], direction), passed["packets"])
            size.add_metric((row["name"], direction), passed["bytes"])
    yield packets
    yield size


def _dropped(rows: Sequence[Row]) -> Iterator[Metric]:
    all_causes = CounterMetricFamily(
        "donjon_network_dropped_packets", "Packets dropped at a vassal's port.", labels=("vassal",)
    )
    by_cause = CounterMetricFamily(
        "donjon_network_drops",
        "The same by cause; a cause that never was is not there.",
        labels=("vassal", "cause"),
    )
    waits = CounterMetricFamily(
        "donjon_network_bandwidth_waits",
        "Times that a vassal had to wait to send, for its bandwidth.",
        labels=("vassal",),
    )
    for row in rows:
        drops = row["counters"]["drops"]
        all_causes.add_metric((row["name"],), sum(drops.values()))
        waits.add_metric((row["name"],), row["counters"]["waits"])
        for cause, count in drops.items():
            by_cause.add_metric((row["name"], cause), count)
    yield all_causes
    yield by_cause
    yield waits


def _rules(found: Row) -> Iterator[Metric]:
    labels = ("chain", "identity", "rule")
    packets = CounterMetricFamily(
        "donjon_firewall_rule_packets", "Packets that a rule matched.", labels=labels
    )
    size = CounterMetricFamily(
        "donjon_firewall_rule_bytes", "Bytes of them.", labels=labels, unit="bytes"
    )
    for row in found.get("rules", ()):
        values = (row["chain"], row["identity"], row["rule"])
        packets.add_metric(values, row["packets"])
        size.add_metric(values, row["bytes"])
    yield packets
    yield size


def _router(found: Row) -> Iterator[Metric]:
    router = found["router"]
    yield GaugeMetricFamily(
        "donjon_router_up", "Whether the router answers.", value=int("firewall" in found)
    )
    if router is not None:
        yield CounterMetricFamily(
            "donjon_router_restarts", "Routers that were started again.", value=router["restarts"]
        )
    if found.get("resolver"):
        restarts = found["resolver"]["restarts"]
        yield CounterMetricFamily(
            "donjon_resolver_restarts", "Resolvers that were started again.", value=restarts
        )
    yield from _did(found.get("firewall", {}))


def _did(totals: Mapping[str, int]) -> Iterator[Metric]:
    """Return the totals of a firewall."""
    totals = dict(totals)
    connections = totals.pop("connections", None)
    if connections is not None:
        yield GaugeMetricFamily(
            "donjon_firewall_connections", "Connections that are remembered.", value=connections
        )
    did = CounterMetricFamily(
        "donjon_firewall_events", "What all rules together did.", labels=("event",)
    )
    for name, count in totals.items():
        did.add_metric((name,), count)
    yield did


# -- a router without an Emperor


def router(found: Row) -> list[Metric]:
    """Return what the statistics of a ``tuntap-router`` have; a peer is its first address."""
    passed = CounterMetricFamily(
        "donjon_peer_packets", "IP packets of a peer.", labels=("peer", "direction")
    )
    drops = CounterMetricFamily(
        "donjon_peer_drops", "Packets dropped at a peer by cause.", labels=("peer", "cause")
    )
    for peer in found["peers"]:
        if not peer["addresses"]:  # it sent nothing yet
            continue
        name = peer["addresses"][0]
        passed.add_metric((name, "out"), peer["out_packets"])
        passed.add_metric((name, "in"), peer["in_packets"])
        for cause, count in peer["drops"].items():
            drops.add_metric((name, cause), count)
    packets = CounterMetricFamily(
        "donjon_firewall_rule_packets", "Packets that a rule matched.", labels=("identity",)
    )
    for rule in found["rules"]:
        packets.add_metric((f"{rule['identity']:016x}",), rule["packets"])
    return [passed, drops, packets, *_did(found["firewall"])]


# -- vassals

_Table = Mapping[str, tuple[str, Callable[[Row], float]]]


def vassals(rows: Sequence[Row]) -> list[Metric]:
    """Return what an answer to ``ls`` has."""
    gauges: _Table = {
        "up": ("Whether a vassal runs.", lambda row: int(row["pid"] > 0)),
        "accepting": ("Whether it said that it accepts.", lambda row: row["accepting"]),
        "frozen": ("Whether it stands still.", lambda row: row["frozen"]),
        "start_time_seconds": ("When it was started last.", lambda row: row["last_run"]),
    }
    counters: _Table = {
        "respawns": ("Times that it was started again.", lambda row: row["respawns"]),
        "freezes": ("Times that it was frozen.", lambda row: row["freezes"]),
    }
    families: list[Metric] = []
    for name, (words, value) in gauges.items():
        gauge = GaugeMetricFamily(f"donjon_vassal_{name}", words, labels=("vassal",))
        for row in rows:
            gauge.add_metric((row["name"],), value(row))
        families.append(gauge)
    for name, (words, value) in counters.items():
        counter = CounterMetricFamily(f"donjon_vassal_{name}", words, labels=("vassal",))
        for row in rows:
            counter.add_metric((row["name"],), value(row))
        families.append(counter)
    return [*families, _states(rows), _faults(rows)]


def _states(rows: Sequence[Row]) -> Metric:
    states = GaugeMetricFamily("donjon_vassals", "Vassals by their state.", labels=("state",))
    names = [str(row["state"]) for row in rows]
    for state in State:
        states.add_metric((state.value,), names.count(state.value))
    return states


def _faults(rows: Sequence[Row]) -> Metric:
    faults = CounterMetricFamily(
        "donjon_vassal_faults", "Faults of a vassal by kind.", labels=("vassal", "kind")
    )
    for row in rows:
        for kind, count in row["faults"].items():
            faults.add_metric((row["name"], kind), count)
    return faults
