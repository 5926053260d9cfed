"""Emperors inside jails: what the filter of system calls leaves them, and their vassals."""

import os

import hosting
import pytest

pytestmark = pytest.mark.root


def nested(host, text, inner):
    """Write a vassal that is an Emperor, with a vassal ``inner.ini`` of its own."""
    folder = host.place / "inner"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "inner.ini").write_text(
        f"[uwsgi]\nchdir = {host.place}\nhttp-socket = {host.sock('inner')}\nchmod-socket = 666\n"
        f"wsgi-file = app.py\n{inner}"
    )
    path = host.place / "vassals" / "king.ini"
    path.write_text(f"[uwsgi]\nemperor = {folder}\n{text}")
    return folder / "inner.ini", path


def settled(host):
    """Wait until both are up, and return what the inner one says."""
    hosting.wait_for(lambda: "vassal king.ini is ready" in host.log(), "the king")
    return host.answer("inner")


def status_of_inner(host):
    """Wait for the inner vassal; return the status of who serves it."""
    host.answer("inner")
    found = [pid for pid in hosting.descendants(host.pid) if not hosting.children(pid)]
    serving = [pid for pid in found if hosting.status(pid)["Name"] == "donjon" and
               hosting.own_namespaces(pid)]  # fmt: skip
    return hosting.status(max(serving)), max(serving)


def test_an_emperor_in_a_jail_makes_jails_of_its_own(host):
    bind = f"bind = {host.place}/sockets:{host.place}/sockets\n"
    inner = f"uid = 33\ngid = 33\nunshare = ipc\nhostname = deep\nrootfs = host\n{bind}"
    nested(host, "unshare = ipc,uts\n", inner)
    host.start()
    facts = settled(host)
    assert facts["hostname"] == "deep"
    assert "usr" in facts["root"]
    assert "home" not in facts["root"]
    king = hosting.status(host.master("king"))
    assert (king["Seccomp"], king["Seccomp_filters"], king["NoNewPrivs"]) == ("2", "1", "0")
    found, pid = status_of_inner(host)
    assert (found["Seccomp"], found["Seccomp_filters"], found["NoNewPrivs"]) == ("2", "2", "1")
    assert {"mnt", "uts", "ipc"} <= set(hosting.own_namespaces(pid))


def test_a_customers_emperor_keeps_plain_vassals_without_clone3(host):
    """Tyrant mode: a customer's Emperor has the default filter, and clone(2) for births."""
    files = nested(host, "", "")
    for path in files:
        os.chown(path, 1000, 1000)
    (host.place / "base.ini").write_text("[uwsgi]\nunshare = ipc\n")
    host.start(f"emperor-tyrant = true\nvassals-include = {host.place}/base.ini\n")
    settled(host)
    king = hosting.status(host.master("king"))
    assert (king["Uid"].split()[0], king["Seccomp"], king["NoNewPrivs"]) == ("1000", "2", "1")


def test_a_reload_in_a_jail_is_filtered_and_loses_nothing(host):
    host.vassal("shop", "uid = 33\ngid = 33\nunshare = ipc\nprocesses = 2\n")
    host.start()
    host.answer("shop")
    first = set(hosting.children(host.master("shop")))
    path = host.place / "vassals" / "shop.ini"
    os.utime(path)
    hosting.wait_for(
        lambda: (
            len(set(hosting.children(host.master("shop"))) - first) == 2
            and not first & set(hosting.children(host.master("shop")))
        ),
        "the second generation",
    )
    workers = hosting.children(host.master("shop"))
    assert {hosting.status(pid)["Seccomp"] for pid in workers} == {"2"}
    assert host.answer("shop")["pid"] in workers


def test_a_changed_profile_is_a_changed_jail(host):
    host.vassal("shop", "uid = 33\ngid = 33\nunshare = ipc\n")
    host.start()
    host.answer("shop")
    first = host.master("shop")
    host.vassal("shop", "uid = 33\ngid = 33\nunshare = ipc\nseccomp = strict\n")
    hosting.wait_for(lambda: host.master("shop") not in (first, -1, 0), "another process")
    host.answer("shop")
    assert hosting.status(host.master("shop"))["Seccomp_filters"] == "1"


def test_a_stop_from_above_is_heard_by_the_master_alone(host):
    """Its Emperor beside it is told by the master, and is no part that died."""
    _, king = nested(host, "unshare = ipc,uts\n", "uid = 33\ngid = 33\n")
    host.start()
    settled(host)
    king.unlink()
    hosting.wait_for(lambda: "removed uwsgi instance king.ini" in host.log(), "the king's end")
    assert "*** RAGNAROK EVOKED ***" in host.log()
    assert "OOOPS" not in host.log()
    assert "killing vassal king.ini" not in host.log()
