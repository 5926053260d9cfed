"""Hosting plans: written by the operator, kept by control groups, changed while vassals run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hosting
import planned
import pytest

from donjon.config.entry import Entry
from donjon.config.hosting import VOCABULARY, read_plans
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor import plans
from donjon.emperor.prepare import Preparer
from donjon.emperor.scanner import Found
from donjon.errors import ConfigError, OptionError
from donjon.jail import cgroup_layout
from donjon.jail.spec import CgroupPath, JailSpec
from donjon.origin import Origin

LAYOUT = cgroup_layout.look()
GOLD = """[plan:gold]
cpu-weight = 400
cpu-max = 150%
memory-max = 256M
memory-swap = 0
pids = 64
open-files = 200
[plan:bronze]
cpu-weight = 50
pids = 32
"""


def start(host, base, text, lines=""):
    host.start(f"plan-cgroup = {base}\nemperor-control = {host.place}/control\n{lines}{text}")


def verb(host, *words):
    done = subprocess.run(
        [*hosting.DONJON, *words, "--control", str(host.place / "control")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def value(controller, base, name, file):
    return Path(LAYOUT.old[controller], base, name, file).read_text().strip()


def open_files(pid):
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[3:5] for line in lines if line.startswith("Max open files"))


FORMS = {
    "ini": "[uwsgi]\nmaster = true\n[plan:gold]\ncpu-max = 150%\nmemory-max = 1G\n",
    "yaml": "uwsgi:\n  master: true\nplan:gold:\n  cpu-max: 150%\n  memory-max: 1G\n",
    "json": '{"uwsgi": {"master": true}, "plan:gold": {"cpu-max": "150%", "memory-max": "1G"}}',
    "toml": '[uwsgi]\nmaster = true\n["plan:gold"]\ncpu-max = "150%"\nmemory-max = "1G"\n',
    "xml": '<all><uwsgi id="plan:gold"><cpu-max>150%</cpu-max><memory-max>1G</memory-max></uwsgi></all>',
}


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_is_a_section_in_every_format(form, tmp_path):
    path = tmp_path / f"emperor.{form}"
    path.write_text(FORMS[form])
    (gold,) = read_plans(str(path)).values()
    assert (gold.name, gold.cpu_max, gold.memory_max) == ("gold", 150, 1 << 30)


def test_every_word_of_the_vocabulary_reads_its_example(tmp_path):
    path = tmp_path / "plans.ini"
    lines = "".join(f"{word} = {row.example}\n" for word, row in VOCABULARY.items())
    path.write_text(f"[plan:all]\n{lines}")
    plan = read_plans(str(path))["all"]
    assert set(plan.words()) == set(VOCABULARY)


def test_max_is_no_limit(tmp_path):
    path = tmp_path / "plans.ini"
    path.write_text("[plan:free]\nmemory-max = max\npids = max\ncpu-max = max\n")
    assert read_plans(str(path))["free"].words() == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cpu-maximum = 1%", "a plan has no cpu-maximum (did you mean cpu-max?)"),
        (
            "cpu-max = lots",
            "cannot use cpu-max = lots in plan gold: not a percentage from 1% to 1000000%"
            " (for example cpu-max = 150%)",
        ),
        (
            "memory-max = much",
            "cannot use memory-max = much in plan gold: not a size (a number, or one with K, M or"
            " G) (for example memory-max = 1G)",
        ),
        (
            "pids = 0",
            "cannot use pids = 0 in plan gold: not between 1 and 2147483647"
            " (for example pids = 128)",
        ),
    ],
)
def test_a_bad_line_of_a_plan_is_named(line, message, tmp_path):
    path = tmp_path / "plans.ini"
    path.write_text(f"[plan:gold]\npids = 3\n{line}\n")
    with pytest.raises(OptionError) as caught:
        read_plans(str(path))
    assert str(caught.value) == f"{path}:3: {message}"


@pytest.mark.parametrize("name", ["Gold plan", "_basic", " silver", ""])
def test_a_name_that_no_plan_can_have_is_refused(name, tmp_path):
    path = tmp_path / "plans.ini"
    path.write_text(f"[plan:gold]\npids = 3\n[plan:{name}]\npids = 4\n")
    with pytest.raises(ConfigError) as caught:
        read_plans(str(path))
    assert str(caught.value).startswith(f"{path}:3: [plan:{name}] is not the name of a plan")


def test_a_file_of_plans_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the plans of .*/none\.ini: No such file"):
        plans.Plans.load(EmperorSpec(plan_file=str(tmp_path / "none.ini")))


def load(tmp_path, **spec):
    path = tmp_path / "plans.ini"
    path.write_text(GOLD)
    spec = EmperorSpec(plan_file=str(path), **spec)
    return spec, plans.Plans.load(spec)


def test_what_the_operator_assigns_counts_more_than_what_a_file_says(tmp_path):
    spec, known = load(tmp_path, plan_assign=(("*", "gold"), ("shop*.ini", "bronze")))
    says_gold = Launch(plan="gold")
    assert known.plan_of(spec, "shop1.ini", says_gold).name == "bronze"
    assert known.plan_of(spec, "shop1.ini:zerg", Launch()).name == "bronze"
    # in a directory of its own it may be anybody's
    assert known.plan_of(spec, "/srv/mallory/shop1.ini", Launch()).name == "gold"
    assert known.plan_of(spec, "blog.ini", Launch()).name == "gold"


def test_a_plan_that_nobody_defined_is_refused_with_those_that_are(tmp_path):
    spec, known = load(tmp_path)
    launch = Launch(plan="platinum", plan_origin=Origin("shop.ini", 3))
    with pytest.raises(plans.UnknownPlanError) as caught:
        known.plan_of(spec, "shop.ini", launch)
    assert str(caught.value) == (
        f"shop.ini:3: plan platinum is not defined (defined in {tmp_path}/plans.ini: bronze, gold)"
    )


@pytest.mark.cgroup1
def test_a_plan_is_groups_options_and_limits_and_the_stricter_limit_stays(tmp_path):
    _spec, known = load(tmp_path)
    jail = JailSpec(max_fd=100, own_limits=frozenset({"max_fd"}))
    made = plans.furnish(jail, known.plans["gold"], "a/b.ini", directory="d")
    assert f"{LAYOUT.old['memory']}/d/a%2Fb.ini" in [group.path for group in made.cgroups]
    assert [f"{one.key}={one.value}" for one in made.cgroup_options] == [
        "cpu.weight=400",
        f"memory.max={256 << 20}",
        "memory.swap.max=0",
        "pids.max=64",
        "cpu.max=150000 100000",
    ]
    assert (made.max_fd, made.own_limits) == (100, {"max_fd"})
    made = plans.furnish(JailSpec(), known.plans["gold"], "b.ini", directory="d")
    assert (made.max_fd, str(made.origins["max_fd"])) == (
        200,
        f"{tmp_path}/plans.ini:7: plan gold",
    )


@pytest.mark.cgroup1
def test_groups_that_the_operator_named_are_used_instead(tmp_path):
    _spec, known = load(tmp_path)
    own = CgroupPath(f"{LAYOUT.old['memory']}/mine/x")
    made = plans.furnish(JailSpec(cgroups=(own,)), known.plans["gold"], "b.ini", directory="d")
    memory = [one.path for one in made.cgroups if one.path.startswith(LAYOUT.old["memory"] + "/")]
    assert memory == [own.path]


def test_every_disk_gets_the_limits_of_the_plan(tmp_path):
    path = tmp_path / "plans.ini"
    path.write_text("[plan:slow]\nio-bytes = 1M\nio-operations = 10\n")
    options = plans.options_of(read_plans(str(path))["slow"])
    limits = "rbps=1048576 wbps=1048576 riops=10 wiops=10"
    assert [one.value for one in options] == [f"{disk} {limits}" for disk in plans.disks()]


def test_a_disk_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "plans.ini"
    path.write_text("[plan:slow]\nio-bytes = 1M\nio-device = /dev/none\n")
    with pytest.raises(ConfigError) as caught:
        plans.options_of(read_plans(str(path))["slow"])
    assert str(caught.value) == (
        f"{path}:3: plan slow: cannot use io-device /dev/none: No such file or directory"
    )


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_a_vassal_has_its_plan_and_a_changed_plan_changes_it_while_it_runs(host, base):
    host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\n")
    start(host, base, GOLD)
    host.answer("shop")
    master = host.master("shop")
    worker = hosting.children(master)[0]
    assert value("cpu", base, "shop.ini", "cpu.shares") == "4096"
    assert value("cpu", base, "shop.ini", "cpu.cfs_quota_us") == "150000"
    assert value("memory", base, "shop.ini", "memory.limit_in_bytes") == str(256 << 20)
    assert value("memory", base, "shop.ini", "memory.memsw.limit_in_bytes") == str(256 << 20)
    assert value("pids", base, "shop.ini", "pids.max") == "64"
    assert str(master) in value("pids", base, "shop.ini", "cgroup.procs").split()
    assert open_files(worker) == ["200", "200"]

    emperor = host.place / "emperor.ini"
    text = emperor.read_text().replace("150%", "80%").replace("memory-max = 256M\n", "")
    hosting.replace_text(
        emperor, text.replace("pids = 64", "pids = 48").replace("files = 200", "files = 150")
    )
    hosting.wait_for(
        lambda: value("pids", base, "shop.ini", "pids.max") == "48", "the new number of processes"
    )
    assert value("cpu", base, "shop.ini", "cpu.cfs_quota_us") == "80000"
    endless = Path(LAYOUT.old["memory"], "memory.limit_in_bytes").read_text().strip()
    assert value("memory", base, "shop.ini", "memory.limit_in_bytes") == endless
    told = "cannot allow 150 open files: Operation not permitted"
    hosting.wait_for(
        lambda: open_files(worker) == ["150", "150"] or told in host.log(),
        "the new limit of open files, or why there is none",
    )
    assert host.master("shop") == master
    assert hosting.children(master)[0] == worker


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_another_plan_is_given_by_a_touch_without_a_restart(host, base):
    path = host.vassal("shop", "plan = gold\n")
    start(host, base, GOLD)
    host.answer("shop")
    master = host.master("shop")
    host.vassal("shop", "plan = bronze\n")
    hosting.wait_for(
        lambda: value("cpu", base, "shop.ini", "cpu.shares") == "512", "the other plan's weight"
    )
    assert value("cpu", base, "shop.ini", "cpu.cfs_quota_us") == "-1"
    assert host.master("shop") == master
    assert path.exists()


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_plans_that_cannot_be_read_change_nothing_and_an_unknown_plan_waits_for_its_definition(
    host, base
):
    host.vassal("shop", "plan = gold\n")
    host.vassal("blog", "plan = platinum\n")
    start(host, base, GOLD)
    host.answer("shop")
    emperor = host.place / "emperor.ini"
    good = emperor.read_text()
    hosting.replace_text(emperor, good.replace("pids = 64", "pids = many"))
    line = good[: good.index("pids = 64")].count("\n") + 1
    hosting.wait_for(
        lambda: (
            f"the plans stay as they were: {emperor}:{line}: cannot use pids = many" in host.log()
        ),
        "the reason",
    )
    assert value("pids", base, "shop.ini", "pids.max") == "64"
    assert "blog.ini:7: plan platinum is not defined (defined in" in host.log()
    hosting.replace_text(emperor, good + "[plan:platinum]\npids = 99\n")
    host.answer("blog")
    assert value("pids", base, "blog.ini", "pids.max") == "99"


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_a_customer_cannot_give_himself_a_plan_and_has_the_one_he_was_given(host, base):
    own = "chmod-socket = 666\n"
    for name, text in (("shop", own), ("greedy", f"{own}plan = gold\nmax-fd = 4000\n")):
        os.chown(host.vassal(name, text), 33, 33)
    start(host, base, GOLD, "emperor-tyrant = true\nplan-assign = * bronze\n")
    host.answer("shop")
    assert value("cpu", base, "shop.ini", "cpu.shares") == "512"
    assert hosting.status(host.master("shop"))["Uid"].split() == ["33"] * 4
    hosting.wait_for(lambda: "plan is for the operator only" in host.log(), "the refusal")
    assert "greedy.ini:8: plan is for the operator only" in host.log()


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_donjon_plans_shows_plan_against_use(host, base):
    host.vassal("shop", "plan = gold\n")
    host.vassal("free", "")
    start(host, base, GOLD)
    host.answer("shop")
    host.answer("free")
    rows = {row["name"]: row for row in json.loads(verb(host, "plans", "--json"))}
    shop = rows["shop.ini"]
    assert shop["plan"] == "gold"
    assert shop["use"]["memory_max"] == 256 << 20
    assert 0 < shop["use"]["memory"] < 256 << 20
    assert (shop["use"]["cpu_weight"], shop["use"]["cpu_percent"]) == (400, 150.0)
    assert shop["use"]["pids"] == 2
    assert shop["cpu"] is not None
    assert rows["free.ini"]["plan"] == ""
    table = verb(host, "plans", "--interval", "0.2").splitlines()
    assert table[0].split()[:4] == ["NAME", "PLAN", "WEIGHT", "CPU"]
    assert "/256.0MiB" in table[2]
    assert "2/64" in table[2]
    assert "cpu-weight=400 cpu-max=150%" in verb(host, "plans", "--list")


def test_without_an_emperor_a_plan_is_said_to_be_ignored(tmp_path):
    (tmp_path / "x.ini").write_text("[uwsgi]\nplan = gold\nhook-asap = exit:7\n")
    done = subprocess.run(
        [sys.executable, "-m", "donjon", "--ini", str(tmp_path / "x.ini")],
        capture_output=True, text=True, check=False, timeout=20,
        env={name: text for name, text in os.environ.items() if name != "UWSGI_EMPEROR_FD"},
    )  # fmt: skip
    assert "plan gold is given by an Emperor only; there is none here" in done.stderr
    assert done.returncode == 7


@pytest.mark.cgroup1
def test_donjon_plan_shows_what_a_hosting_plan_is_made_of(tmp_path):
    (tmp_path / "plans.ini").write_text(GOLD)
    (tmp_path / "shop.ini").write_text("[uwsgi]\nplan = gold\n")
    done = subprocess.run(
        [*hosting.DONJON, "plan", "--plans", "plans.ini", "shop.ini"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr == ""
    assert (
        f"enter the cgroup {LAYOUT.old['cpu']}/donjon/shop.ini with "
        "cpu.shares=4096 (for cpu.weight=400), "
        "cpu.cfs_period_us=100000 (for cpu.max=150000 100000)" in done.stdout
    )
    assert "allow at most 200 open files" in done.stdout
    assert "plans.ini:7: plan gold" in done.stdout


def test_donjon_check_shows_what_is_wrong_with_plans(tmp_path):
    path = tmp_path / "emperor.ini"
    path.write_text(f"[uwsgi]\nemperor = {tmp_path}\n[plan:gold]\npids = none\n")
    done = subprocess.run(
        [*hosting.DONJON, "check", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        f"{path}:4: error: cannot use pids = none in plan gold: not a whole number" in done.stdout
    )


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_disks_are_limited_and_a_word_that_goes_is_taken_back(host, base):
    plan = "[plan:slow]\nio-bytes = 1M\nio-operations = 50\nio-weight = 50\n"
    host.vassal("shop", "plan = slow\n")
    start(host, base, plan)
    host.answer("shop")
    disks = plans.disks()
    if not disks:
        pytest.skip("no disk")
    file = "blkio.throttle.{}_device"
    assert value("blkio", base, "shop.ini", file.format("write_bps")).split() == [
        disks[0],
        "1048576",
    ]
    assert value("blkio", base, "shop.ini", file.format("read_iops")).split() == [disks[0], "50"]
    emperor = host.place / "emperor.ini"
    hosting.replace_text(
        emperor, emperor.read_text().replace("io-bytes = 1M\nio-operations = 50\n", "")
    )
    hosting.wait_for(
        lambda: value("blkio", base, "shop.ini", file.format("write_bps")) == "", "no limit"
    )
    assert value("blkio", base, "shop.ini", file.format("read_iops")) == ""


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_a_vassal_started_again_has_nothing_of_an_older_plan(host, base):
    host.vassal("shop", "plan = gold\n")
    start(host, base, GOLD)
    host.answer("shop")
    verb(host, "stop", "shop")
    hosting.wait_for(lambda: host.master("shop") == -1, "the stop")
    emperor = host.place / "emperor.ini"
    hosting.replace_text(
        emperor, emperor.read_text().replace("memory-max = 256M\nmemory-swap = 0\n", "")
    )
    hosting.wait_for(lambda: "plans read again" in host.log(), "the new plans")
    verb(host, "start", "shop")
    host.answer("shop")
    endless = Path(LAYOUT.old["memory"], "memory.limit_in_bytes").read_text().strip()
    assert value("memory", base, "shop.ini", "memory.limit_in_bytes") == endless
    assert value("pids", base, "shop.ini", "pids.max") == "64"


@pytest.mark.root
@pytest.mark.cgroup1
def test_a_limit_of_the_vassals_own_is_another_jail_and_one_of_its_plan_is_not(tmp_path):
    spec, _known = load(tmp_path, sources=(str(tmp_path),))
    preparer = Preparer(spec, ("donjon",))
    found = Found("shop.ini", str(tmp_path / "shop.ini"), 1, (0, 0), 33, 33, 1)

    def key(**words):
        entries = [Entry(name.replace("_", "-"), text) for name, text in words.items()]
        return preparer.understand("shop.ini", found, entries).jail_key()

    assert key(plan="gold") == key(plan="bronze")
    assert key(plan="gold", max_fd="50") != key(plan="gold", max_fd="60")
    assert key(cgroup_opt="pids.max=5") == key(cgroup_opt="pids.max=6")


@pytest.mark.root
@pytest.mark.cgroup1
@pytest.mark.slow
def test_two_emperors_do_not_share_the_group_of_a_vassal(host, base):
    host.vassal("shop", "")
    planned.start(host, base, "pids = 40\n")
    host.answer("shop")
    master = host.master("shop")
    other = hosting.Host(Path(f"{host.place}-other"))
    try:
        other.vassal("shop", "")
        planned.start(other, base, "pids = 40\n")
        hosting.wait_for(lambda: "shop.ini is in use" in other.log(), "the refusal")
        assert "each Emperor of a host needs a plan-cgroup of its own" in other.log()
    finally:
        other.close()
    host.answer("shop")
    assert host.master("shop") == master
