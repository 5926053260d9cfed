"""Addresses out of a pool: disjoint, stable, taken back only from who is gone."""

import tempfile
from ipaddress import ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from donjon.errors import JailError
from donjon.jail import netgrant, plan
from donjon.jail.netgrant import Pool, settle
from donjon.jail.spec import JailSpec, NetworkGrant

TAP = JailSpec(network="tap")
NAMES = some.text(
    some.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=12
)


@pytest.fixture
def pool(tmp_path):
    return Pool(networks=("192.168.7.0/29", "fd00:7::/64"), path=str(tmp_path / "addresses"))


def grant(spec, name, pool):
    return settle(spec, name, pool).network_grant


def given_to(address):
    return JailSpec(network="tap", network_addresses=(address,))


def test_both_families_have_the_same_number(pool):
    assert grant(TAP, "a", pool) == NetworkGrant(
        kind="tap",
        addresses=("192.168.7.2/29", "fd00:7::2/64"),
        routers=("192.168.7.1", "fd00:7::1"),
    )


@given(some.lists(some.tuples(NAMES, some.booleans()), max_size=40))
@settings(max_examples=50, deadline=None)
def test_addresses_are_disjoint_and_stay(asked):
    with tempfile.TemporaryDirectory() as place:
        pool = Pool(networks=("10.0.0.0/24",), path=f"{place}/addresses")
        known = {}
        for name, forgets in asked:
            if forgets:
                netgrant.ledger_of.cache_clear()  # another Emperor, later
            found = grant(TAP, name, pool).addresses
            assert known.setdefault(name, found) == found
            (address,) = map(ip_interface, found)
            assert address.ip not in (address.network[0], address.network[1], address.network[-1])
        assert len(set(known.values())) == len(known)


def test_an_exhausted_pool_takes_back_from_files_that_are_gone(pool, tmp_path):
    files = [tmp_path / f"{number}.ini" for number in range(5)]
    for file in files:
        file.touch()
        grant(TAP, str(file), pool)
    with pytest.raises(JailError) as caught:
        grant(TAP, "/etc/other", pool)
    assert str(caught.value).startswith("no addresses are left for /etc/other: all from 2 to 6")
    files[2].unlink()
    assert grant(TAP, str(tmp_path), pool).addresses[0] == "192.168.7.4/29"


def test_what_is_taken_back_is_one_address_not_all_that_could_be(pool, tmp_path):
    for number in range(5):
        grant(TAP, str(tmp_path / f"{number}.ini"), pool)
    assert grant(TAP, "/etc/hosts", pool).addresses[0] == "192.168.7.2/29"
    names = {one.name for one in netgrant.ledger_of(pool).ranges()}
    assert {str(tmp_path / f"{number}.ini") for number in range(1, 5)} < names


def test_who_asks_for_anothers_address_keeps_its_own(pool):
    mine = grant(TAP, "a", pool)
    theirs = grant(TAP, "b", pool).addresses[0].partition("/")[0]
    with pytest.raises(JailError) as caught:
        grant(given_to(theirs), "a", pool)
    assert str(caught.value) == f"network-address = {theirs} cannot be a's: it is b's"
    grant(TAP, "c", pool)
    assert grant(TAP, "a", pool) == mine


def test_a_damaged_ledger_is_one_of_addresses(pool):
    with open(pool.path, "w", encoding="ascii") as file:
        file.write("garbage\n")
    with pytest.raises(JailError) as caught:
        grant(TAP, "a", pool)
    assert f"{pool.path}:1: the address ledger is damaged" in str(caught.value)
    assert "no addresses are given out until it is mended" in str(caught.value)


def test_an_address_of_choice_is_given_and_can_change(pool):
    assert grant(given_to("192.168.7.6"), "a", pool).addresses[1] == "fd00:7::6/64"
    assert grant(given_to("fd00:7::5"), "a", pool).addresses[0] == "192.168.7.5/29"
    with pytest.raises(JailError) as caught:
        grant(given_to("192.168.7.5"), "b", pool)
    assert "cannot be b's" in str(caught.value)


@pytest.mark.parametrize("address", ["192.168.7.1", "192.168.7.0", "192.168.7.7", "192.168.8.2"])
def test_an_address_that_no_vassal_can_have_is_refused(pool, address):
    with pytest.raises(JailError) as caught:
        grant(given_to(address), "a", pool)
    assert f"network-address = {address} is not a vassal's address" in str(caught.value)


def test_two_networks_of_a_family_are_refused():
    with pytest.raises(JailError):
        netgrant.pool_of(("10.0.0.0/24", "10.0.1.0/24"), None)


def test_a_veth_has_the_address_that_it_is_given():
    spec = JailSpec(network="veth:br0", network_addresses=("10.1.0.5/16",), network_mtu=9000)
    assert grant(spec, "a", None) == NetworkGrant(
        kind="veth", bridge="br0", addresses=("10.1.0.5/16",), mtu=9000
    )


@pytest.mark.parametrize(
    ("address", "routers"),
    [("10.9.0.5/24", ()), ("192.168.7.5", ("192.168.7.1",)), ("fd00:7::5/64", ("fd00:7::1",))],
)
def test_a_veth_has_the_routers_that_its_network_has(pool, address, routers):
    spec = JailSpec(network="veth:br0", network_addresses=(address,))
    assert grant(spec, "a", pool).routers == routers


def test_host_and_nothing_need_no_grant():
    for spec in (JailSpec(), JailSpec(network="host")):
        assert settle(spec, "a", None) == spec


def test_an_instance_without_an_emperor_is_refused():
    with pytest.raises(JailError) as caught:
        plan.build(TAP, root=True)
    assert "network = tap is made by an Emperor" in str(caught.value)


def test_the_network_is_the_first_step_of_the_plan(pool):
    spec = settle(TAP, "a", pool)
    first = plan.build(spec, root=True, born_in=frozenset({"net"})).steps[0]
    assert first.describe() == (
        "enter a network namespace made for it: tap, 192.168.7.2/29, fd00:7::2/64, "
        "router 192.168.7.1 fd00:7::1"
    )


@pytest.mark.parametrize("more", [{"unshare": frozenset({"net"})}, {"setns": "/x"}])
def test_what_would_leave_it_is_refused(pool, more):
    spec = settle(JailSpec(network="tap", **more), "a", pool)
    with pytest.raises(JailError):
        plan.build(spec, root=True, born_in=frozenset({"net"}))
