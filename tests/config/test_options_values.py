"""How values are read, and how they are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.config import options
from donjon.config.options import values


def parse(name, text):
    return options.find(name).parse(text)


@pytest.mark.parametrize(
    "text", ["true", "1", "yes", "on", "anything", "", "TRUE", "2", "true # yes"]
)
def test_words_that_are_true(text):
    assert values.boolean(text) is True


@pytest.mark.parametrize(
    "text", ["false", "FALSE", "off", "no", "0", " false ", "false # not yet"]
)
def test_words_that_are_false(text):
    assert values.boolean(text) is False


@pytest.mark.parametrize(
    ("text", "number"), [("4", 4), (" 4 ", 4), ("20 # a comment", 20), ("5; no", 5), ("", 1)]
)
def test_whole_numbers(text, number):
    assert values.number(text) == number


@pytest.mark.parametrize("text", ["-1", "x", "4x", "1.5", "0x10", "99999999999", "٣ apples"])
def test_what_is_not_a_whole_number_is_refused(text):
    with pytest.raises(ValueError, match="not"):
        values.number(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10), ("64K", 65536), ("1m", 1 << 20), ("2G", 2 << 30), ("1MiB", 1 << 20)],
)
def test_sizes_have_units(text, size):
    assert values.size()(text) == size


def test_a_limit_of_memory_counts_in_mebibytes():
    assert parse("limit-as", "128") == 128 << 20
    assert parse("limit-as", "1G") == 1 << 30
    assert parse("limit-as", "128 # limit the project to 128 MB") == 128 << 20


@pytest.mark.parametrize("text", ["", "big", "-1", "1X", "1 2"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        values.size()(text)


def test_a_size_that_no_call_could_take_is_refused():
    assert values.size()("9223372036854775807") == (1 << 63) - 1
    for text in ("9223372036854775808", "99999999999999999999", "9000000000G"):
        with pytest.raises(ValueError, match="too large"):
            values.size()(text)


def test_there_is_at_least_one_worker_and_one_thread():
    assert parse("threads", "0") == 1
    with pytest.raises(ValueError, match="not between 1 and 4096"):
        parse("processes", "0")


def test_a_large_buffer_is_clamped():
    assert parse("buffer-size", "32768") == 32768
    assert parse("buffer-size", "1000000") == 65535


@pytest.mark.parametrize(
    ("text", "mode"), [("664", 0o664), ("", 0o666), ("1", 0o666), ("true", 0o666), ("0660", 0o660)]
)
def test_modes_of_sockets(text, mode):
    assert parse("chmod-socket", text) == mode


@pytest.mark.parametrize("text", ["64", "668", "rw", "7777", "66666"])
def test_what_is_not_a_mode_of_a_socket_is_refused(text):
    with pytest.raises(ValueError, match="octal"):
        parse("chmod-socket", text)


def test_masks_are_octal():
    assert parse("umask", "022") == 0o022
    assert parse("cgroup-dir-mode", "755") == 0o755
    with pytest.raises(ValueError, match="octal"):
        parse("umask", "999")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pid,net", {"pid", "net"}),
        ("ns", {"fs"}),
        ("mnt, mount ,fs", {"fs"}),
        ("user,uts,ipc,cgroup,time,files,io,sysvsem", {"user", "uts", "ipc", "cgroup", "time", "files", "io", "sysvsem"}),
        ("parent,pid", {"pid"}),
    ],
)  # fmt: skip
def test_words_of_namespaces_have_one_spelling(text, words):
    assert parse("unshare", text) == words
    assert parse("emperor-use-clone", text) == words


@pytest.mark.parametrize("text", ["", ",", "pid,nte", "all"])
def test_what_is_not_a_namespace_is_refused(text):
    with pytest.raises(ValueError, match="namespace"):
        parse("unshare", text)


def test_capabilities_are_names_or_numbers():
    assert parse("cap", "net_bind_service,sys_time") == {10, 25}
    assert parse("cap", "CAP_SETUID, 6") == {7, 6}
    assert parse("emperor-cap", "setuid,setgid") == {7, 6}
    assert parse("cap", "wake_alarm,42") == {35, 42}


@pytest.mark.parametrize("text", ["", "everything", "net_bind_servic", "64", "-1"])
def test_what_is_not_a_capability_is_refused(text):
    with pytest.raises(ValueError, match="capability"):
        parse("cap", text)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/a", ("/a", "/a", set())),
        ("/a:/b", ("/a", "/b", set())),
        ("/a:/b:ro", ("/a", "/b", {"ro"})),
        ("/a:ro", ("/a", "/a", {"ro"})),
        ("/a:/b:rw", ("/a", "/b", {"rw"})),
        ("/a::ro", ("/a", "/a", {"ro"})),
        ("/a:optional:idmap:ro:rec", ("/a", "/a", {"ro", "rec", "idmap", "optional"})),
        ("/a:/b:rec:optional", ("/a", "/b", {"rec", "optional"})),
    ],
)
def test_binds(text, bind):
    assert parse("bind", text) == bind


@pytest.mark.parametrize(
    "text", ["", "a:/b", "/a:b", "/a:/b:/c", ":/b", "/a:/b:/c:ro", "/a:ro:rw"]
)
def test_what_is_not_a_bind_is_refused(text):
    with pytest.raises(ValueError, match=r"not|missing|none of"):
        parse("bind", text)


@pytest.mark.parametrize(
    ("text", "tmpfs"),
    [
        ("/tmp", ("/tmp", None, None, 0o1777)),
        ("/tmp:64M", ("/tmp", 64 << 20, None, 0o1777)),
        ("/tmp:size=1k", ("/tmp", 1024, None, 0o1777)),
        ("/tmp:mode=700,inodes=9,size=1k", ("/tmp", 1024, 9, 0o700)),
        ("/tmp:inodes=9", ("/tmp", None, 9, 0o1777)),
    ],
)
def test_private_file_systems(text, tmpfs):
    assert parse("tmpfs", text) == tmpfs


@pytest.mark.parametrize(
    "text",
    ["", "tmp", "/tmp:big", "/tmp:1k,size=2k", "/tmp:uid=0", "/tmp:mode=9", "/tmp:inodes=0"],
)
def test_what_is_not_a_private_file_system_is_refused(text):
    with pytest.raises(ValueError, match=r"not|missing|none of"):
        parse("tmpfs", text)


def test_the_two_words_of_pivot_root():
    assert parse("pivot_root", "/ns /ns/.old_root") == ("/ns", "/ns/.old_root")
    for text in ("/ns", "/ns /other", "/ns /nsold", "/a /b /c"):
        with pytest.raises(ValueError, match="not"):
            parse("pivot_root", text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("cpu.shares=125", ("cpu.shares", "125")),
        ("memory.max:1G", ("memory.max", "1G")),
        ("devices.allow=c 1:3 rw", ("devices.allow", "c 1:3 rw")),
    ],
)
def test_options_of_control_groups(text, pair):
    assert parse("cgroup-opt", text) == pair


@pytest.mark.parametrize("text", ["cpu.shares", "=1", "../cgroup.procs=1", "a/b=1", "..=1", ""])
def test_what_is_not_an_option_of_a_control_group_is_refused(text):
    with pytest.raises(ValueError, match="not"):
        parse("cgroup-opt", text)


@pytest.mark.parametrize(("text", "pair"), [("A=b=c", ("A", "b=c")), ("A", ("A", ""))])
def test_environment_variables(text, pair):
    assert parse("env", text) == pair


@pytest.mark.parametrize("text", ["=x", "", "A=b\0c"])
def test_what_is_not_an_environment_variable_is_refused(text):
    with pytest.raises(ValueError, match=r"not|NUL"):
        parse("env", text)


@pytest.mark.parametrize("name", ["web 1", "", "a/b", "x" * 65])
def test_what_is_not_a_host_name_is_refused(name):
    with pytest.raises(ValueError, match="host name"):
        parse("hostname", name)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_a_reader_returns_or_says_why(text):
    """No reader of any built option raises anything but ValueError with a reason."""
    for parse in {row.parse for row in options.all_options() if row.apply is not None}:
        reason = "read"
        try:
            parse(text)
        except ValueError as error:
            reason = str(error)
        assert reason


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "/srv/root",
        "overlay:/distros/bookworm",
        "overlay:/distros/php,/distros/bookworm:/cow/shop",
        "overlay:/distros/bookworm:size=64M",
        "image:/srv/images/base:1,2.squashfs",
    ],
)
def test_roots(text):
    assert parse("rootfs", text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"),
        ("srv", "neither host"),
        ("overlay:", "LOWER '' is not an absolute path"),
        ("overlay:distro", "LOWER 'distro' is not an absolute path"),
        ("overlay:/a,/a", "a LOWER is named twice"),
        ("overlay:/a:/b:/c", "several LOWER are divided by commas"),
        ("overlay:/a:size=big", "'big' is not a size"),
        ("overlay:/a:cow", "UPPER 'cow' is not an absolute path"),
        ("overlay:/a:/a/cow", "one inside the other"),
        ("overlay:/cow/a:/cow", "one inside the other"),
        ("overlay:" + ",".join(f"/{n}" for n in range(13)), "more than 12 LOWER"),
        ("image:file", "FILE 'file' is not an absolute path"),
    ],
)
def test_what_is_not_a_root_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse("rootfs", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("none", {"none"}),
        ("masked", set()),
        ("subset=pid", {"subset=pid"}),
        ("hidepid=noaccess,subset=pid", {"subset=pid", "hidepid=noaccess"}),
    ],
)
def test_choices_of_proc(text, words):
    assert parse("rootfs-proc", text) == words


@pytest.mark.parametrize(
    "text", ["", "all", "none,subset=pid", "hidepid=9", "hidepid=off,hidepid=noaccess"]
)
def test_what_is_not_a_choice_of_proc_is_refused(text):
    with pytest.raises(ValueError, match="none"):
        parse("rootfs-proc", text)


def test_a_name_server_is_an_address():
    assert parse("rootfs-nameserver", "2001:DB8::53") == "2001:db8::53"
    with pytest.raises(ValueError, match="address"):
        parse("rootfs-nameserver", "dns.example")
