"""What a configuration is told when it cannot be."""

import pytest

from donjon.config.entry import Entry
from donjon.config.launch import Advice, build, problems
from donjon.errors import ConfigError, OptionError
from donjon.origin import Origin


def entry(key, value, line=7, source="a.ini"):
    return Entry(key, value, Origin(source, line, key))


def said(*given, **more):
    return [str(problem) for problem in problems(given, **more)]


def test_a_value_that_does_not_fit_names_file_line_key_value_and_reason():
    with pytest.raises(OptionError) as caught:
        build([entry("processes", "many")])
    assert str(caught.value) == (
        "a.ini:7: cannot use processes = many: not a whole number (for example processes = 4)"
    )


def test_a_value_on_the_command_line_has_no_line():
    with pytest.raises(OptionError, match=r"^command line: cannot use cap = foo: 'foo' is not a"):
        build([Entry("cap", "foo", Origin("command line", 0, "cap"))])


def test_a_negative_number_is_refused():
    with pytest.raises(OptionError, match="not between 1 and"):
        build([entry("processes", "-1")])


def test_a_missing_value_is_an_error():
    with pytest.raises(OptionError, match="a value is missing"):
        build([entry("uid", None)])


def test_a_value_is_shown_in_one_bounded_line():
    with pytest.raises(OptionError) as caught:
        build([entry("processes", "a\nb\x1b[31m" + "x" * 5000)])
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_harmless_option_that_is_not_built_is_a_line_in_the_log(capfd):
    launch = build([entry("cheaper", "2"), entry("thunder-lock", "true", 8)])
    assert capfd.readouterr().err == (
        "a.ini:7: cheaper is not built yet; ignored\n"
        "a.ini:8: thunder-lock is not built yet; ignored\n"
    )
    assert launch.server.processes == 1


@pytest.mark.parametrize(
    "name",
    ["cache2", "spooler", "route", "static-map", "fastcgi-socket", "psgi"],
)
def test_an_option_that_changes_what_runs_and_is_not_built_is_an_error(name):
    with pytest.raises(ConfigError, match=rf"^a.ini:7: {name} is not built yet: it belongs to "):
        build([entry(name, "x")])


def test_every_problem_is_told_at_once():
    told = said(
        entry("cheaper", "1", 1),
        entry("cache2", "name=x", 2),
        entry("processes", "x", 3),
        entry("procesess", "4", 4),
        entry("base", "/srv", 5),
        entry("socket", "=3", 6),
    )
    assert [line.split(": ")[0] for line in told] == [
        "a.ini:1", "a.ini:2", "a.ini:3", "a.ini:4", "a.ini:6",
    ]  # fmt: skip
    assert told[3] == (
        "a.ini:4: procesess is not an option, so it is only a placeholder "
        "(did you mean processes?)"
    )


def test_a_value_that_is_overruled_in_the_same_file_is_told():
    told = said(
        entry("chdir", "/a", 1),
        entry("chdir", "/b", 2, "other.ini"),
        entry("chdir", "/c", 3),
        entry("env", "A=1", 4),
        entry("env", "B=1", 5),
    )
    assert told == ["a.ini:3: chdir is given again; line 1 counts no more"]


def test_a_source_of_vassals_that_needs_a_plugin_is_an_error():
    with pytest.raises(OptionError, match=r"pg:// is not built yet"):
        build([entry("emperor", "pg://host=127.0.0.1;SELECT name FROM vassals")])


def test_advice_is_told_apart_from_errors():
    found = problems([entry("cheaper", "1"), entry("processes", "x"), entry("mastr", "1")])
    assert [isinstance(problem, Advice) for problem in found] == [True, False, True]


def test_a_good_configuration_has_no_problems():
    assert problems([entry("master", "true"), entry("my-own", "x"), entry("socket", ":1")]) == []


OPERATOR = [
    ("uid", "root"),
    ("gid", "root"),
    ("add-gid", "disk"),
    ("immediate-uid", "1"),
    ("cap", "sys_admin"),
    ("no-new-privs", "false"),
    ("no-initgroups", "true"),
    ("master-as-root", "true"),
    ("drop-after-apps", "true"),
    ("cgroup", "/sys/fs/cgroup"),
    ("cgroup-opt", "memory.max=max"),
    ("cgroup-dir-mode", "777"),
    ("rootfs", "/"),
    ("bind", "/etc/shadow:/etc/shadow"),
    ("tmpfs", "/etc"),
    ("chroot", "/"),
    ("pivot_root", "/a /a/b"),
    ("unshare", "user"),
    ("unshare2", "fs"),
    ("setns", "/run/ns"),
    ("namespace", "/"),
    ("namespace-keep-mount", "/home"),
    ("refork-as-root", "true"),
    ("privileged-binary-patch", "/bin/sh"),
    ("privileged-binary-patch-arg", "sh"),
    ("hook-as-root", "exec:id"),
    ("exec-as-root", "id"),
    ("call-as-root", "getpid"),
    ("hook-post-jail", "exec:id"),
    ("mount-pre-jail", "none / /mnt bind"),
    ("umount-asap", "/proc"),
    ("mount-as-vassal", "none / /mnt bind"),
    ("emperor-use-clone", "user"),
    ("vassal-cap", "sys_admin"),
    ("emperor-tyrant", "false"),
    ("emperor-wrapper", "/bin/sh"),
    ("emperor-control", "/run/x"),
    ("spawn", "exec"),
    ("spawner-preload", "evil"),
]


@pytest.mark.parametrize(("key", "value"), OPERATOR)
def test_a_customer_cannot_use_what_is_the_operators(key, value):
    with pytest.raises(ConfigError, match=rf"^a.ini:7: {key} is for the operator only"):
        build([entry(key, value)], customer=True)
    build([entry(key, value)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("master", "true"),
        ("http-socket", ":8080"),
        ("exec-as-user", "id"),
        ("hook-asap", "print:x"),
        ("hook-accepting", "print:x"),
        ("unprivileged-binary-patch", "/bin/ps"),
        ("env", "A=B"),
        ("chdir", "/srv"),
        ("harakiri", "10"),
        ("emperor", "/srv/me/vassals"),
        ("hostname", "me"),
    ],
)
def test_a_customer_can_use_the_rest(key, value):
    build([entry(key, value)], customer=True)


def test_what_the_operator_gives_to_all_vassals_is_allowed():
    given = [entry("uid", "1000", 3, "/etc/base.ini"), entry("master", "true")]
    launch = build(given, customer=True, operator_sources={"/etc/base.ini"})
    assert launch.jail.uid == "1000"
    with pytest.raises(ConfigError, match=r"a.ini:7: uid is for the operator only"):
        build(
            [*given, entry("uid", "0")],
            customer=True,
            operator_sources={"/etc/base.ini"},
        )


@pytest.mark.parametrize("source", ["command line", "environment"])
def test_a_file_named_as_a_source_of_the_operator_is_still_the_customers(source):
    """An include of a file ``environment`` in the customer's own directory has this origin."""
    build([entry("uid", "0", 0, source)], customer=True, operator_sources={source})
    with pytest.raises(ConfigError, match="uid is for the operator only"):
        build([entry("uid", "0", 1, source)], customer=True, operator_sources={source})


@pytest.mark.parametrize("uid", ["33", "www-data"])
def test_a_customer_may_say_who_he_is(uid):
    launch = build([entry("uid", uid), entry("gid", uid)], customer=True, owner=(33, 33))
    assert launch.jail.uid == uid


@pytest.mark.parametrize("uid", ["0", "root", "34", "no-such-user", "", "033 "])
def test_a_customer_may_not_be_somebody_else(uid):
    with pytest.raises(ConfigError, match="uid is for the operator only"):
        build([entry("uid", uid)], customer=True, owner=(33, 33))
    with pytest.raises(ConfigError, match="gid is for the operator only"):
        build([entry("gid", uid)], customer=True, owner=(33, 33))


def test_problems_tell_what_is_the_operators_too():
    told = said(entry("uid", "root", 1), entry("cgroup", "/x", 2), customer=True)
    assert [line.split(" is ")[0] for line in told] == ["a.ini:1: uid", "a.ini:2: cgroup"]
