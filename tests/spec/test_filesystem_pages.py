"""The pages on pivot_root, FUSE and copy-on-write roots, run as written and looked at from outside.

Paths, user names and ports are this machine's; applications are Python where the page has Perl.
``mountpoint-check`` is left out: it is about the master, not about file systems.
"""

import json
import os
import shutil
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import hosting
import pytest
from jailer import NEW_CALLS

from donjon.jail import hostview

pytestmark = [pytest.mark.root, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "layers"

WRITER = """
import json, os
def application(environ, start_response):
    try:
        with open("/var/data/written", "w") as file:
            file.write(environ["PATH_INFO"])
        written = True
    except OSError as error:
        written = error.strerror
    start_response("200 OK", [])
    facts = {"root": sorted(os.listdir("/")), "written": written, "uid": os.getuid(),
             "table": open("/proc/self/mountinfo").read()}
    return [json.dumps(facts).encode()]
"""


def needs(*programs):
    """Skip where the Debian package of a program is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' '.join(missing)}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path="/"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def answer(host, port, path="/", unlike=None):
    """Wait for an answer, from another worker than ``unlike`` if that is given."""

    def look():
        facts = get(port, path)
        return facts if facts.get("pid", 0) != unlike else None

    try:
        return hosting.wait_for(look, "answer")
    except AssertionError as error:
        raise AssertionError(f"{error}; log:\n{host.log()[-3000:]}") from None


def mount_points(pid):
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}


def root_of(pid):
    """Return the root of a process, as a path that leads into it."""
    return Path(f"/proc/{pid}") / "root"


def processes(name):
    """Return the processes with a command of this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name[:15]:
                found.append(int(path.parts[2]))
        except OSError:
            continue
    return found


def distribution(place):
    """Make a directory with the mount points of a small distribution, ``.old_root`` among them."""
    for name in ("proc", "dev", "etc", "tmp", "usr", ".old_root", "opt", *hosting_trees()):
        (place / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            (place / name).symlink_to(os.readlink(f"/{name}"))
    (place / "etc" / "distribution").write_text(place.name)
    return place


def hosting_trees():
    """What this interpreter needs beside /usr."""
    return [path for path in hostview.interpreter_trees() if not path.startswith("/usr")]


def vassal(host, name, text):
    """Write a vassal's file as it is."""
    (host.place / "vassals" / f"{name}.ini").write_text("[uwsgi]\n" + text)


def open_fuse(host):
    """Let every user of the jail open /dev/fuse, as udev does on a Debian host."""
    node = host.place / "fuse"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    os.chmod(node, 0o666)
    return f"hook-pre-jail = mount:none {node} /dev/fuse bind\n"


def shown_in(place):
    """Hooks that put this machine's programs where debootstrap would have put others."""
    return "".join(
        f"hook-pre-jail = mount:none {path} {place}{path} bind\n"
        for path in ("/usr", *hosting_trees())
    )


def test_pvr_02_the_common_pattern_keeps_the_old_tree_where_it_was_asked(host):
    """PVR-02: ``/`` is the distribution, the host's tree is at /.old_root (lines 5206-5214)."""
    precise = distribution(host.place / "precise")
    ns = host.place / "ns"
    ns.mkdir()
    (precise / "app.py").write_text(WRITER)
    port = free_port()
    vassal(
        host,
        "shop",
        shown_in(precise) + "unshare = fs\n"
        f"hook-post-jail = mount:none {precise} {ns} bind,rec\n"
        f"pivot_root = {ns} {ns}/.old_root\n"
        f"http-socket = 127.0.0.1:{port}\nuid = 33\ngid = 33\nwsgi-file = /app.py\n"
        "hook-as-root = mount:proc none /proc\n",
    )
    host.start("emperor-use-clone = fs\n")
    facts = answer(host, port)
    assert ".old_root" in facts["root"]
    assert facts["uid"] == 33
    worker = hosting.children(host.master("shop"))[0]
    root = root_of(worker)
    assert (root / "etc" / "distribution").read_text() == "precise"
    assert (root / ".old_root" / "etc" / "passwd").exists()


def test_pvr_03_the_old_tree_is_unmounted_with_hooks(host):
    """PVR-03 (lines 5215-5225): afterwards no path leads to the host's tree."""
    precise = distribution(host.place / "precise")
    ns = host.place / "ns"
    ns.mkdir()
    (precise / "app.py").write_text(WRITER)
    (precise / "dev" / "pts").mkdir()
    port = free_port()
    vassal(
        host,
        "shop",
        shown_in(precise) + "unshare = fs\n"
        f"hook-post-jail = mount:none {precise} {ns} bind,rec\n"
        f"pivot_root = {ns} {ns}/.old_root\n"
        "; bind mount some useful fs like /dev and /proc\n"
        "hook-as-root = mount:proc none /proc nodev hidepid=2\n"
        "hook-as-root = mount:none /.old_root/dev /dev bind\n"
        "hook-as-root = mount:none /.old_root/dev/pts /dev/pts bind\n"
        "; umount the old tree\n"
        "hook-as-root = umount:/.old_root rec,detach\n"
        f"http-socket = 127.0.0.1:{port}\nuid = 33\ngid = 33\nwsgi-file = /app.py\n",
    )
    host.start("emperor-use-clone = fs\n")
    facts = answer(host, port)
    worker = hosting.children(host.master("shop"))[0]
    assert os.listdir(root_of(worker) / ".old_root") == []
    rows = [line.split() for line in facts["table"].splitlines()]
    assert [row[4] for row in rows].count("/") == 1
    assert not [row for row in rows if row[4].startswith("/.old_root")]
    proc = next(line for line in facts["table"].splitlines() if line.split()[4] == "/proc")
    assert "nodev" in proc.split()[5]
    assert "hidepid=invisible" in proc


def test_pvr_01_a_new_root_that_is_no_mount_point_is_one_line(host):
    """PVR-01: new must be a mount point, old must lie under it."""
    precise = distribution(host.place / "precise")
    host.vassal("shop", f"unshare = fs\npivot_root = {precise} {precise}/.old_root\nuid = 33\n")
    host.start()
    hosting.wait_for(lambda: "it is not a mount point" in host.log(), "error")
    line = next(line for line in host.log().splitlines() if "it is not a mount point" in line)
    assert "pivot_root" in line
    assert "shop.ini:" in line


@needs("fuse-zip", "zip", "fusermount")
def test_b024_a_vassal_mounts_a_zip_file_system(host):
    """FSE-03, FSE-04, ENS-02, CFL-06 (lines 1903-1920).

    ``no-new-privs = false`` and ``seccomp = +mount``: fusermount is a set-user-id program that mounts.
    """
    archive, app = host.place / "app001.zip", host.place / "app"
    app.mkdir()
    shutil.chown(app, "www-data", "www-data")
    subprocess.run(["zip", "-q", "-j", archive, host.place / "app.py"], check=True)
    port = free_port()
    host.vassal(
        "shop",
        open_fuse(host)
        + "uid = www-data\ngid = www-data\nno-new-privs = false\nseccomp = +mount\n"
        "; mount FUSE filesystem under /app (but only if it is not a reload)\n"
        "if-not-reload =\n"
        f"exec-as-user = fuse-zip -r {archive} {app}\n"
        "endif =\n"
        f"http-socket = 127.0.0.1:{port}\n"
        f"wsgi-file = {app}/app.py\n",
    )
    before = processes("fuse-zip")
    host.start("emperor-use-clone = fs,pid\n")
    worker = answer(host, port)["pid"]
    master = host.master("shop")
    assert str(app) in mount_points(master)
    assert str(app) not in mount_points(os.getpid())
    servers = [pid for pid in processes("fuse-zip") if pid not in before]
    assert len(servers) == 1
    os.utime(host.place / "vassals" / "shop.ini")
    answer(host, port, unlike=worker)
    assert [pid for pid in processes("fuse-zip") if pid not in before] == servers
    (host.place / "vassals" / "shop.ini").unlink()
    hosting.wait_for(lambda: not hosting.alive(servers[0]), "end of the file system's process")
    assert os.listdir(app) == []


@needs("fuse-zip", "zip", "fusermount")
def test_b029_unmounting_at_exit_commits_what_was_written(host):
    """FSE-08 (lines 2013-2019): fuse-zip writes the archive when it is unmounted.

    Without a pid namespace, whose end could come before fuse-zip is done.
    """
    archive, app = host.place / "data.zip", host.place / "data"
    app.mkdir()
    for path in (app, host.place):
        shutil.chown(path, "www-data", "www-data")
    (host.place / "seed").write_text("seed")
    subprocess.run(["zip", "-q", "-j", archive, host.place / "seed"], check=True)
    shutil.chown(archive, "www-data", "www-data")
    host.vassal(
        "shop",
        open_fuse(host)
        + "uid = www-data\ngid = www-data\nno-new-privs = false\nseccomp = +mount\n"
        f"exec-as-user = fuse-zip {archive} {app}\n"
        f"exec-as-user = cp {host.place}/seed {app}/kept\n"
        "exec-as-user-atexit = fusermount -u " + str(app) + "\n",
    )
    host.start("emperor-use-clone = fs\n")
    host.answer("shop")
    (host.place / "vassals" / "shop.ini").unlink()
    hosting.wait_for(lambda: "removed uwsgi instance shop.ini" in host.log(), "end of the vassal")

    def names():
        listing = subprocess.run(
            ["unzip", "-Z1", archive], capture_output=True, text=True, check=False
        )
        return listing.stdout.split()

    hosting.wait_for(lambda: sorted(names()) == ["kept", "seed"], "archive with what was written")


@needs("unionfs-fuse", "fusermount")
def test_b028_a_copy_on_write_root_of_unionfs_fuse(host):
    """FSE-05, FSE-06, PVR-04, PVR-05, PVR-06 (lines 1941-2012)."""
    ns, ufs = host.place / "ns", host.place / "ufs"
    ufs.mkdir()
    precise = distribution(ns / "precise")
    (precise / "var" / "www").mkdir(parents=True)
    (precise / "var" / "www" / "myapp.py").write_text(WRITER)
    (precise / "var" / "data").mkdir()
    os.chmod(precise / "var" / "data", 0o777)
    ports = {}
    for number in (20101, 20102):
        (ns / "cow" / str(number)).mkdir(parents=True)
        os.chown(ns / "cow" / str(number), number, number)
        ports[number] = free_port()
        vassal(
            host,
            f"user{number}",
            "; drop privileges\n"
            f"uid = {number}\ngid = {number}\n"
            "; chdir to / to avoid problems after pivot_root\n"
            "hook-pre-jail = callret:chdir /\n"
            + shown_in(precise)
            + "; run unionfs-fuse using chroot\n"
            f"hook-pre-jail = exec:unionfs-fuse -ocow,chroot={ns},default_permissions,allow_other "
            f"/precise=RO:/cow/%(uid)=RW {ufs}\n"
            f"pivot_root = {ufs} {ufs}/.old_root\n"
            "; remount the /proc filesystem\n"
            "hook-as-root = mount:proc none /proc\n"
            "; bind mount the original /dev in the new rootfs (simplifies things a lot)\n"
            "hook-as-root = mount:none /.old_root/dev /dev bind\n"
            "; recursively un-mount the old rootfs\n"
            "hook-as-root = umount:/.old_root rec,detach\n"
            f"http-socket = 127.0.0.1:{ports[number]}\n"
            "wsgi-file = /var/www/myapp.py\n",
        )
    before = sorted(str(path) for path in precise.rglob("*"))
    host.start("emperor-use-clone = fs,pid\n")
    for number, port in ports.items():
        facts = answer(host, port, f"/{number}")
        assert facts["written"] is True
        assert facts["uid"] == number
        assert "fuse" in facts["table"].splitlines()[0]
        assert not [line for line in facts["table"].splitlines() if "old_root" in line]
    for number in ports:
        assert (ns / "cow" / str(number) / "var" / "data" / "written").read_text() == f"/{number}"
    assert sorted(str(path) for path in precise.rglob("*")) == before
    assert str(ufs) not in mount_points(os.getpid())


def test_b028_the_same_with_the_kernels_own_overlay(host):
    """FSE-05 and FSE-06 in one line of configuration."""
    lower = host.place / "precise"
    (lower / "var" / "www").mkdir(parents=True)
    (lower / "var" / "www" / "myapp.py").write_text(WRITER)
    (lower / "var" / "data").mkdir()
    os.chmod(lower / "var" / "data", 0o777)
    ports = {}
    for number in (20101, 20102):
        cow = host.place / "cow" / str(number)
        cow.mkdir(parents=True)
        ports[number] = free_port()
        (host.place / "vassals" / f"user{number}.ini").write_text(
            f"[uwsgi]\nuid = {number}\ngid = {number}\nrootfs = overlay:{lower}:{cow}\n"
            f"http-socket = 127.0.0.1:{ports[number]}\nwsgi-file = /var/www/myapp.py\n"
        )
    host.start("emperor-use-clone = pid\n")
    for number, port in ports.items():
        assert answer(host, port, f"/{number}")["written"] is True
        assert (
            host.place / "cow" / str(number) / "upper" / "var" / "data" / "written"
        ).read_text() == f"/{number}"
    assert not (lower / "var" / "data" / "written").exists()


def test_the_example_of_layers_runs(host):
    """With the example's own files, below another directory than /srv."""
    for name in ("distros/bookworm", "cow/shop", "sites/shop", "customers/shop"):
        (host.place / name).mkdir(parents=True)
    os.chown(host.place / "customers" / "shop", 20001, 20001)
    (host.place / "sites" / "shop" / "app.py").write_text(
        WRITER.replace("/var/data", "/var/cache")
    )
    for path in (host.place / "sites" / "shop", host.place / "sites" / "shop" / "app.py"):
        os.chown(path, 1000, 1000)
        os.chmod(path, 0o700)
    for name in ("plan.ini", "vassals/shop.ini"):
        text = (EXAMPLE / name).read_text()
        text = text.replace("/srv", str(host.place)).replace("/run", str(host.place))
        (host.place / name).write_text(text)
    host.start(f"emperor-use-clone = fs,ipc,pid,uts\nvassals-include = {host.place}/plan.ini\n")
    socket_of_shop = host.place / "customers" / "shop" / "shop.sock"
    facts = hosting.wait_for(lambda: hosting.ask(socket_of_shop), "answer")
    assert (facts["uid"], facts["written"]) == (20001, True)
    assert list((host.place / "distros" / "bookworm").iterdir()) == []


@pytest.mark.parametrize("root", ["host", "{place}/root", "overlay:{place}/root:{place}/cow"])
def test_a_vassal_runs_on_a_kernel_without_the_calls_by_descriptor(host, root, monkeypatch):
    monkeypatch.setenv("DONJON_INJECT", ",".join(f"{name}:ENOSYS:0:-1" for name in NEW_CALLS))
    for name in ("root", "cow"):
        (host.place / name).mkdir()
    vassal(
        host,
        "shop",
        f"uid = 20101\ngid = 20101\nrootfs = {root.format(place=host.place)}\nhostname = shop\n"
        f"bind = {host.place}/sockets:/sockets\nhttp-socket = /sockets/shop.sock\n"
        f"bind = {host.place}/app.py:/app.py:ro\nwsgi-file = /app.py\nmask-path = /proc/cpuinfo\n",
    )
    host.start("emperor-use-clone = fs,pid,ipc,uts,net\n")
    facts = host.answer("shop")
    assert facts["hostname"] == "shop"
    assert facts["processes"][0] == 1
    assert str(host.place) not in str(mount_points(os.getpid()))
    worker = hosting.children(host.master("shop"))[0]
    assert [point for point in mount_points(worker) if point == "/"] == ["/"]
    assert not [point for point in mount_points(worker) if point.startswith("/tmp/donjon-spec")]


@pytest.mark.userns
def test_a_home_is_shared_with_a_jail_that_is_born_in_a_user_namespace(host):
    """``bind = …:idmap``: root's files of the disk are root's inside, and nobody's but his."""
    home = host.place / "home"
    home.mkdir(mode=0o700)
    (home / "app.py").write_text(WRITER.replace("/var/data", "/srv/own"))
    port = free_port()
    (host.place / "vassals" / "shop.ini").write_text(
        f"[uwsgi]\nuid = 20101\ngid = 20101\nrootfs = host\nbind = {home}:/srv/own:idmap\n"
        f"http-socket = 127.0.0.1:{port}\nwsgi-file = /srv/own/app.py\n"
    )
    host.start("emperor-use-clone = fs,pid,user,net,ipc,uts\n")
    hosting.wait_for(lambda: "is ready to accept" in host.log(), "vassal")
    master = host.master("shop")
    assert "app.py" in os.listdir(root_of(master) / "srv" / "own")
    assert os.stat(root_of(master) / "srv" / "own" / "app.py").st_uid == 20101


@pytest.mark.userns
def test_a_distribution_is_shared_by_vassals_that_are_born_in_user_namespaces(host):
    lower = host.place / "precise"
    (lower / "var" / "www").mkdir(parents=True)
    (lower / "var" / "www" / "myapp.py").write_text(WRITER)
    (lower / "var" / "data").mkdir()
    for number in (20101, 20102):
        cow = host.place / "cow" / str(number)
        cow.mkdir(parents=True)
        os.chown(cow, number, number)
        vassal(
            host,
            f"user{number}",
            f"uid = {number}\ngid = {number}\nrootfs = overlay:{lower}:{cow}\n"
            f"bind = {host.place}/sockets:/sockets\nhttp-socket = /sockets/{number}.sock\n"
            "wsgi-file = /var/www/myapp.py\n",
        )
    host.start("emperor-use-clone = fs,pid,user,net,ipc,uts\n")
    for number in (20101, 20102):
        facts = host.answer(str(number))
        assert facts["written"] is True
        assert facts["uid"] == 0
        kept = host.place / "cow" / str(number) / "upper" / "var" / "data" / "written"
        assert kept.stat().st_uid == number
    assert os.listdir(lower / "var" / "data") == []


@pytest.mark.userns
def test_a_map_that_cannot_be_is_the_vassals_error(host):
    (host.place / "vassals" / "shop.ini").write_text(
        "[uwsgi]\nuid = 20101\ngid = 20101\nrootfs = host\nbind = /proc/sys:/home:idmap\n"
        f"http-socket = 127.0.0.1:{free_port()}\nwsgi-file = /usr/app.py\n"
    )
    host.start("emperor-use-clone = fs,pid,user,net,ipc,uts\n")
    text = "cannot bind /proc/sys with idmap: the file system (proc) cannot show other owners"
    hosting.wait_for(lambda: text in host.log(), "error")
