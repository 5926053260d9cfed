"""An Emperor with networks, on a host that is a namespace of the test's."""

import contextlib

from empire import Emperor

POOL = ["192.168.77.0/24", "fd00:77::/64"]
FORWARD = "/proc/sys/net/ipv4/ip_forward"


@contextlib.contextmanager
def ruling(place, lab):
    """An Emperor that is not started yet, and ends well."""
    found = Emperor(place)
    found.lab = lab
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.terminate()
        assert found.process.wait(20) == 0, found.log()


def start(emperor, **spec):
    spec = {"network_pool": POOL, "network_nat": True, **spec}
    ledger = str(emperor.place / "ledger")
    return emperor.start(prefix=emperor.lab.host.command(), network_ledger=ledger, **spec)


def net(emperor):
    return emperor.ask({"verb": "net"})


def network(emperor, name):
    return next(one for one in net(emperor)["vassals"] if one["name"] == name)


def address(emperor, name, family=0):
    return network(emperor, name)["addresses"][family].partition("/")[0]


def pid(emperor, name, count=1):
    return emperor.started(name, count)["pid"]


def table(lab):
    return lab.host.run("nft", "list", "ruleset")
