"""The ledger of host ids: nobody's range is anybody else's, whatever crashes in between."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import idgrant, idledger, idmap
from donjon.jail.idledger import Ledger, Range
from donjon.jail.idmap import Extent, IdRange
from donjon.jail.spec import JailSpec
from donjon.origin import Origin
from donjon.records import replace

FIRST = idledger.POOL[0]


@pytest.fixture
def accounts(tmp_path):
    for name in ("passwd", "group", "subuid", "subgid"):
        (tmp_path / name).write_text("")
    return [str(tmp_path / name) for name in ("passwd", "group", "subuid", "subgid")]


@pytest.fixture
def ledger(tmp_path, accounts):
    yield Ledger(str(tmp_path / "state" / "ids"), accounts)
    syscalls.inject_clear()


def again(ledger):
    """What another process reads."""
    return Ledger(ledger.path, ledger._accounts)


def test_each_name_gets_a_range_of_its_own_and_keeps_it(ledger):
    first, second = ledger.assign("/v/a.ini", 65536), ledger.assign("/v/b.ini", 65536)
    assert (first.base, second.base) == (FIRST, FIRST + 65536)
    assert again(ledger).assign("/v/a.ini", 10) == first
    assert [one.name for one in again(ledger).ranges()] == ["/v/a.ini", "/v/b.ini"]


def test_a_released_range_is_free_and_no_other_is(ledger):
    ledger.assign("a", 65536)
    kept = ledger.assign("b", 65536)
    assert ledger.release("a").base == FIRST
    assert ledger.assign("c", 65536).base == FIRST
    assert ledger.find("b") == kept
    with pytest.raises(JailError, match=r"a has no ids in .*/ids"):
        ledger.release("a")


def test_ids_of_accounts_and_delegated_ids_are_stepped_over(ledger, tmp_path):
    (tmp_path / "passwd").write_text(f"far:x:{FIRST + 5}:7::/:/bin/sh\n")
    (tmp_path / "subgid").write_text(f"joe:{FIRST + 65536}:65536\n")
    (tmp_path / "group").write_text(f"g:x:{FIRST + 3 * 65536 - 1}:\n")
    assert ledger.assign("a", 65536).base == FIRST + 3 * 65536


def test_an_account_that_comes_later_into_a_range_stops_the_start(ledger, tmp_path):
    ledger.assign("a", 65536)
    (tmp_path / "passwd").write_text(f"late:x:{FIRST + 9}:{FIRST + 9}::/:/bin/sh\n")
    with pytest.raises(JailError, match=rf"cannot be a's: {FIRST + 9} is in .*/passwd"):
        ledger.assign("a", 65536)


@pytest.mark.parametrize(
    ("base", "size", "reason"),
    [
        (0, 10, "0 is the host's root"),
        (5, 0, "ids of customers are from 1"),
        (0xFFFFFFF0, 16, "ids of customers are from 1 to 4294967294"),
        (FIRST + 65535, 1, f"{FIRST} to {FIRST + 65535} are other's"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(ledger, base, size, reason):
    ledger.assign("other", 65536)
    with pytest.raises(JailError) as caught:
        ledger.claim("me", base, size)
    assert reason in str(caught.value)
    assert again(ledger).find("me") is None


def test_a_claim_is_kept_and_another_of_the_same_name_refused(ledger):
    assert ledger.claim("me", 500000, 100) == ledger.claim("me", 500000, 100)
    with pytest.raises(JailError, match="it has 500000 to 500099, and files with those ids"):
        ledger.claim("me", 600000, 100)


def test_the_real_accounts_are_never_given_out():
    with pytest.raises(JailError, match="33 is in /etc/"):
        Ledger("/nonexistent/ids").claim("me", 30, 10)
    with pytest.raises(JailError, match="cannot be me's"):
        Ledger("/nonexistent/ids").claim("me", 0, 10)


def test_names_of_any_bytes_come_back(ledger):
    names = ["/v/a b.ini", "/v/a\\040b.ini", "/v/\udcff\n.ini", "#x"]
    given = {name: ledger.assign(name, 16) for name in names}
    assert {name: again(ledger).find(name) for name in names} == given


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2", "this is not BASE SIZE NAME"),
        ("0 5 a", "this is not BASE SIZE NAME"),
        ("5 5 a\n9 5 b", "its ids are not above those of a"),
        ("5 5 a\n10 5 a", "a has ids already"),
        ("5 5 a\n1000 5", "this is not BASE SIZE NAME"),
    ],
)
def test_a_damaged_ledger_gives_nothing_out(ledger, text, reason):
    os.makedirs(os.path.dirname(ledger.path))
    Path(ledger.path).write_text(text)
    with pytest.raises(JailError) as caught:
        ledger.assign("new", 16)
    line = text.count("\n") + 1
    assert str(caught.value) == (
        f"{ledger.path}:{line}: the id ledger is damaged: {reason} "
        "(no ids are given out until it is mended)"
    )


def test_a_ledger_that_cannot_be_looked_at_is_not_taken_for_an_empty_one(tmp_path, accounts):
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path / "file" / "ids", "Not a directory"), (tmp_path, "directory")):
        with pytest.raises(JailError, match=f"cannot read the id ledger .*{reason}"):
            Ledger(str(path), accounts).assign("a", 16)


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_disk_that_fails_is_one_line_and_nothing_is_given(ledger, call):
    ledger.assign("a", 16)
    syscalls.inject(call, 28)
    with pytest.raises(JailError, match=r"cannot write the id ledger .*: No space left on device"):
        ledger.assign("b", 16)
    assert [one.name for one in again(ledger).ranges()] == ["a"]
    assert not os.path.exists(f"{ledger.path}.new")
    assert ledger.assign("b", 16).base == FIRST + 16


def test_when_the_pool_is_empty_it_says_so(ledger):
    big = 1 << 29
    ledger.assign("a", big)
    with pytest.raises(JailError, match=rf"no {big} ids are left for b"):
        ledger.assign("b", big)


def test_processes_that_ask_at_once_get_different_ranges(ledger):
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            mine = Ledger(ledger.path, ledger._accounts)
            for turn in range(10):
                mine.assign(f"{number}-{turn}", 100)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    found = again(ledger).ranges()  # a damaged ledger, so also an overlap, would raise
    assert len(found) == 80


def die_at(point, action):
    """Do ``action`` in a child that dies, as if killed, at ``point`` of writing."""
    pid = os.fork()
    if pid == 0:
        write, rename = os.write, os.rename

        def torn(number, data):
            write(number, data[: len(data) // 2])
            os._exit(0)

        def renamed(*paths):
            rename(*paths)
            os._exit(0)

        if point == "write":
            os.write = torn
        elif point == "after rename":
            os.rename = renamed
        else:
            setattr(os, point, lambda *_: os._exit(0))
        try:
            action()
        except JailError:
            os._exit(0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


class Ledgers(RuleBasedStateMachine):
    """A ledger through starts, claims, releases and crashes; ``given`` is what owners were told."""

    names = st.sampled_from("abcdefgh")
    sizes = st.sampled_from([1, 7, 100, 65536])

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.passwd = f"{self.place.name}/passwd"
        Path(self.passwd).write_text(f"x:x:{FIRST + 150}:{FIRST + 150}::/:\n")
        self.given: dict[str, Range] = {}

    def ledger(self):
        return Ledger(f"{self.place.name}/ids", [self.passwd])

    @rule(name=names, size=sizes)
    def start(self, name, size):
        found = self.ledger().assign(name, size)
        assert self.given.setdefault(name, found) == found

    @rule(name=names, base=st.integers(0, 400), size=sizes)
    def claim(self, name, base, size):
        try:
            found = self.ledger().claim(name, FIRST - 200 + base, size)
        except JailError:
            return
        assert self.given.setdefault(name, found) == found

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def release(self, data):
        name = data.draw(st.sampled_from(sorted(self.given)))
        assert self.ledger().release(name) == self.given.pop(name)

    @rule(
        name=names,
        size=sizes,
        point=st.sampled_from(["write", "fsync", "rename", "after rename"]),
    )
    def crash(self, name, size, point):
        known = name in self.given
        die_at(point, lambda: self.ledger().assign(name, size))
        found = self.ledger().find(name)
        if known or point != "after rename":
            assert found == self.given.get(name)
        else:
            self.given[name] = found

    @invariant()
    def nobody_shares(self):
        found = self.ledger().ranges()
        assert {one.name: one for one in found} == self.given
        for one in found:
            assert one.base > 0
            assert not one.base <= FIRST + 150 <= one.last
            assert not any(one.overlaps(other) for other in found if other is not one)

    def teardown(self):
        self.place.cleanup()


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_the_owner_of_a_jail_stays_himself_inside():
    found = idmap.of_range(100000, 65536, owner=(1001, 70000))
    assert found.uids == (
        Extent(0, 100000, 1001),
        Extent(1001, 1001, 1),
        Extent(1002, 101002, 64534),
    )
    assert found.gids == (Extent(0, 100000, 65536), Extent(70000, 70000, 1))
    assert [found.uid(one) for one in (0, 1001, 1002, 65535, 65536)] == [
        100000,
        1001,
        101002,
        165535,
        -1,
    ]
    assert found.root == (100000, 100000)


@pytest.mark.parametrize("uid", [1, 5, 65535])
def test_no_extent_is_empty_and_none_meets_another(uid):
    found = idmap.of_range(100000, 65536, owner=(uid, uid)).uids
    inside = [one for part in found for one in (part.inside, part.inside + part.count - 1)]
    assert inside == sorted(inside)
    assert all(part.count > 0 for part in found)
    assert sum(part.count for part in found) == 65536


def test_a_range_without_a_file_says_what_to_do(tmp_path):
    spec = JailSpec(
        id_range=IdRange(),
        id_range_ledger=str(tmp_path / "ids"),
        origins={"id_range": Origin("command line", 0, "--id-range")},
    )
    with pytest.raises(JailError) as caught:
        idgrant.settle(spec)
    assert str(caught.value) == (
        "command line: --id-range: id-range does not say whose ids they are: "
        "it stands in no file (id-range = auto:NAME)"
    )


def test_a_preview_writes_nothing(tmp_path):
    path = tmp_path / "ids"
    spec = JailSpec(id_range=IdRange(name="shop"), id_range_ledger=str(path))
    seen = idgrant.settle(spec, preview=True).id_map
    assert not path.exists()
    assert idgrant.settle(spec).id_map == seen
    assert path.read_text().endswith(f"{seen.root[0]} 65536 shop\n")


@pytest.mark.parametrize("preview", [False, True])
def test_another_size_than_a_range_has_is_refused_with_what_to_do(tmp_path, preview):
    spec = JailSpec(id_range=IdRange(name="shop"), id_range_ledger=str(tmp_path / "ids"))
    first = idgrant.settle(spec).id_map
    line = {"id_range_size": Origin("shop.ini", 4, "id-range-size")}
    same = replace(spec, id_range_size=65536, origins=line)
    assert idgrant.settle(same, preview=preview).id_map == first
    with pytest.raises(JailError) as caught:
        idgrant.settle(replace(same, id_range_size=200000), preview=preview)
    assert str(caught.value) == (
        "shop.ini:4: id-range-size: shop has 65536 ids, not 200000: it was given them before, and"
        " files may have them (donjon ids --release shop, when there are no such files)"
    )
