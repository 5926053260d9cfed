"""What a router and its rules count, as OpenMetrics and for people."""

import subprocess
import sys

import pytest
from empire import Emperor, wait_for
from netlab import HOST, OUTSIDE, ask, server
from prometheus_client.openmetrics.parser import text_string_to_metric_families

pytestmark = pytest.mark.root


@pytest.fixture
def emperor(tmp_path, lab):
    found = Emperor(tmp_path)
    rules = tmp_path / "rules"
    rules.write_text(f"out daddr {OUTSIDE} tcp dport 7001 drop\n")
    found.start(
        prefix=lab.host.command(),
        network_pool=["192.168.78.0/24"],
        network_nat=True,
        network_ledger=str(tmp_path / "ledger"),
        network_rules=str(rules),
    )
    yield found
    assert found.end() == 0


def run(emperor, *words):
    words = [*words, "--control", str(emperor.place / "control")]
    done = subprocess.run(
        [sys.executable, "-m", "donjon", *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def samples(emperor, verb):
    """The samples of a verb as a strict parser reads them: value by name and labels."""
    text = run(emperor, verb, "--openmetrics")
    assert text.endswith("# EOF\n")
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def of(found, name, **labels):
    """The only sample of a name that has these labels."""
    wanted = set(labels.items())
    (value,) = [
        value for (of, *theirs), value in found.items() if of == name and wanted <= set(theirs)
    ]
    return value


def test_packets_rules_and_drops_are_counted_as_openmetrics(emperor, lab):
    name = 'a".ini'  # what a label has to escape
    emperor.vassal(name, network="tap")
    emperor.vassal("b.ini", network="none")
    a = emperor.started(name)["pid"]
    with server(lab.world, OUTSIDE, 7000):
        assert ask(a, OUTSIDE, 7000) == HOST
    assert ask(a, OUTSIDE, 7001, 0.3) == "TimeoutError"
    found = samples(emperor, "net")
    assert of(found, "donjon_network_packets_total", vassal=name, direction="out") >= 4
    assert of(found, "donjon_network_bytes_total", vassal=name, direction="in") >= 4 * 40
    dropped = of(found, "donjon_network_dropped_packets_total", vassal=name)
    assert (
        dropped == of(found, "donjon_network_drops_total", vassal=name, cause="firewall-out") > 0
    )
    rule = f"out daddr {OUTSIDE} tcp dport 7001 drop"
    assert of(found, "donjon_firewall_rule_packets_total", rule=rule, chain="out") == dropped
    assert of(found, "donjon_firewall_rule_packets_total", rule="out ct state new accept") == 1
    assert of(found, "donjon_firewall_rule_packets_total", rule="policy in drop") == 0
    assert of(found, "donjon_firewall_connections") == 1
    assert of(found, "donjon_router_up") == 1
    assert of(found, "donjon_router_restarts_total") == 0
    assert not [one for one in found if ("vassal", "b.ini") in one]
    lines = [line.split(maxsplit=3) for line in run(emperor, "net", "--rules").splitlines()]
    assert ["out", str(int(dropped)), rule] in [[one[0], one[1], one[3]] for one in lines]


def test_vassals_are_counted_as_openmetrics(emperor):
    emperor.vassal("a.ini")
    emperor.started("a.ini")
    found = wait_for(
        lambda: (
            (all_ := samples(emperor, "ls"))
            and of(all_, "donjon_vassals", state="running")
            and all_
        ),
        "a vassal that runs",
    )
    assert of(found, "donjon_vassals", state="running") == 1
    assert of(found, "donjon_vassal_up", vassal="a.ini") == 1
    assert of(found, "donjon_vassal_start_time_seconds", vassal="a.ini") > 1_000_000_000
    assert of(found, "donjon_vassal_respawns_total", vassal="a.ini") == 0


def test_one_format_at_a_time(emperor):
    words = [sys.executable, "-m", "donjon", "net", "--json", "--openmetrics"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--openmetrics: not allowed with argument --json" in done.stderr
