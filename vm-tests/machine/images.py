"""The guests' root file system: Debian packages as the host has them, and the working tree's wheel.

One ext4 image for every flavour; a guest writes to a copy of its own. It is made again when a package of
the host or a file of the tree changed, and the images of older trees are removed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from machine import HERE, TREE, cache, workshop

_MASKED = (
    "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-timesyncd.service",
    "systemd-networkd-wait-online.service", "systemd-firstboot.service", "apt-daily.timer",
    "getty@.service", "serial-getty@.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
)  # fmt: skip
_TESTERS = ("pytest", "pytest-timeout", "hypothesis")
_SIZE = "4G"  # of a sparse file
_NOT_THERE = (
    "vm-tests/machine/",
    "vm-tests/test_",
    "vm-tests/conftest.py",
    "benchmarks/",
    "changelog.d/",
)
"""What of the tree nobody needs in a guest: no image is made again for a change of it."""


class ImageError(Exception):
    """A root file system cannot be made here; the text says why."""


def root() -> Path:
    """Return the image of the working tree, made when it is not there yet; raises ImageError."""
    base = Path(_run("scripts/test-root", "machine").strip())
    place = cache() / f"root-{_key(base)}.ext4"
    with (cache() / "root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with workshop("root") as scratch:
                made = _make(base, Path(scratch))
                for older in sorted(cache().glob("root-*.ext4"), key=lambda p: p.stat().st_mtime):
                    older.unlink()
                made.rename(place)
    return place


def _sources() -> list[Path]:
    names = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [
        path
        for name in sorted(filter(None, names.split("\0")))
        if not name.startswith(_NOT_THERE) and (path := TREE / name).exists()
    ]


def _key(base: Path) -> str:
    whole = hashlib.sha256(f"{base}{_SIZE}{Path(__file__).read_text()}".encode())
    for path in _sources():
        whole.update(str(path).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def _make(base: Path, scratch: Path) -> Path:
    tree = scratch / "root"
    _run("cp", "-a", base, tree)
    _run("scripts/build-wheel", scratch / "dist")
    (wheel,) = (scratch / "dist").glob("*.whl")
    _run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--ignore-installed",
         "--no-warn-script-location", "--root", tree, "--prefix", "/usr/local", wheel, *_TESTERS)  # fmt: skip
    _settle_packages(tree)
    source = tree / "usr/local/src/donjon"
    for path in _sources():
        target = source / path.relative_to(TREE)
        if not path.is_dir() or path.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    jail = Path(_run("scripts/test-root", "closure").strip())
    roots = tree / "var/cache/donjon-tests"
    roots.mkdir(parents=True)
    _run("cp", "-a", jail, roots)  # a root for the jails of tests/escape
    _configure(tree)
    image = scratch / "root.ext4"
    _run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", "-L", "root",
         "-m", "0", "-d", tree, image, _SIZE)  # fmt: skip
    return image


def _settle_packages(tree: Path) -> None:
    """Put packages where Debian's python3 looks for local ones, and name it in the programs."""
    local = tree / "usr/local"
    (found,) = local.glob("l*/python3.*/*-packages")
    wanted = found.with_name("dist-packages")
    if found != wanted:
        found.rename(wanted)
    for program in (local / "bin").iterdir():
        text = program.read_bytes()
        if text.startswith(b"#!"):
            program.write_bytes(b"#!/usr/bin/python3\n" + text.partition(b"\n")[2])
    _run(
        "chroot",
        tree,
        "python3",
        "-m",
        "compileall",
        "-q",
        "/usr/local/lib",
        "/usr/lib/python3.11",
    )


def _configure(tree: Path) -> None:
    own = tree / "usr/local/lib/donjon-vm"
    own.mkdir(parents=True)
    for name in ("agent.py", "start"):
        shutil.copy2(HERE / "guest" / name, own / name)
    units = tree / "etc/systemd/system"
    for unit, target in (("agent", "multi-user"), ("modules", "sysinit")):
        name = f"donjon-vm-{unit}.service"
        wants = units / f"{target}.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HERE / "guest" / name, units / name)
        (wants / name).symlink_to(f"../{name}")
    for name in _MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    # a mount below /usr would be one that jails see
    (tree / "usr/lib/modules").symlink_to("/run/modules")
    (tree / "etc/machine-id").write_text(f"{hashlib.md5(b'donjon').hexdigest()}\n")
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
    (tree / "etc/resolv.conf").write_text("")
    (tree / "etc/fstab").write_text("")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")


def _run(*words: str | Path) -> str:
    try:
        done = subprocess.run(
            [str(word) for word in words], cwd=TREE, capture_output=True, check=True, text=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise ImageError(f"{words[0]}: {said[-1]}") from error
    return done.stdout
