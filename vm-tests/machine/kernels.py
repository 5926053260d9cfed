"""Kernels out of Debian packages, through an apt of our own: the host's lists and packages stay as they are.

Each kernel is a directory with ``kernel`` (what is run), ``modules.ext4`` (for /usr/lib/modules), for QEMU
``initrd`` (finds the disk), and ``version``. It is fetched once; remove the directory to have a newer one.
"""

import fcntl
import hashlib
import lzma
import re
import shutil
import subprocess
from pathlib import Path

from machine import cache, workshop
from machine.flavours import Kernel

# what the initramfs needs to reach a virtio disk; the file system itself is built in
_DISK_MODULES = ("virtio_pci", "virtio_blk")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /dev /proc /new
/bin/busybox mount -t devtmpfs none /dev
while read module; do /bin/busybox insmod /modules/$module; done < /modules/order
/bin/busybox mount -t ext4 -o rw /dev/vda /new
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /sbin/init "$@"
"""


class KernelError(Exception):
    """A kernel cannot be had here; the text says why."""


def obtain(kernel: Kernel) -> Path:
    """Return the directory of ``kernel``, fetched when it is not there yet; raises KernelError."""
    recipe = hashlib.sha256(f"{kernel}{Path(__file__).read_text()}".encode()).hexdigest()[:12]
    place = cache() / f"kernel-{kernel.name}-{recipe}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (cache() / "kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with workshop("kernel") as scratch:
                made = Path(scratch, "made")
                made.mkdir()
                try:
                    _make(kernel, Path(scratch), made)
                except subprocess.CalledProcessError as error:
                    said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
                    reason = said[-1] if said else f"status {error.returncode}"
                    raise KernelError(f"{kernel.name}: {error.cmd[0]}: {reason}") from error
                made.rename(place)
    return place


def _make(kernel: Kernel, scratch: Path, made: Path) -> None:
    unpacked = scratch / "unpacked"
    for package in _download(kernel, scratch):
        _run("dpkg-deb", "-x", package, unpacked)
    if kernel.backend == "uml":
        shutil.copy2(unpacked / "usr/bin/linux.uml", made / "kernel")
        modules = next((unpacked / "usr/lib/uml/modules").iterdir())
    else:
        shutil.copy2(next(unpacked.rglob("vmlinuz*")), made / "kernel")
        modules = next(
            place for top in ("lib", "usr/lib") for place in unpacked.glob(f"{top}/modules/*")
        )
    version = modules.name
    root = scratch / "root"
    (root / "lib/modules").mkdir(parents=True)
    modules.rename(root / "lib/modules" / version)
    _run("depmod", "-b", root, version)
    _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", "modules", "-m", "0",
         "-d", root / "lib/modules", made / "modules.ext4", "400M")  # fmt: skip
    if kernel.backend == "qemu":
        _initrd(root / "lib/modules" / version, scratch / "initrd", made / "initrd")
    (made / "version").write_text(version)


def _download(kernel: Kernel, scratch: Path) -> list[Path]:
    """Download the package and the kernel packages it stands for; return the files."""
    targets = _run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"
    )
    mirror = next((line.split()[0] for line in targets.splitlines()), None)
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if mirror is None or not keyring.exists():
        raise KernelError(f"{kernel.name}: this host's apt has no Debian mirror")
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (scratch / "apt" / name).mkdir(parents=True)
    apt = scratch / "apt"
    (apt / "sources").write_text(f"deb [signed-by={keyring}] {mirror} {kernel.suite} main\n")
    settings = {
        "Dir::State": apt / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::SourceList": apt / "sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "3",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    _run("apt-get", *options, "-qq", "update")
    queue, wanted = [kernel.package], []
    while queue:
        wanted.append(queue.pop())
        said = _run("apt-cache", *options, "depends", wanted[-1])
        needs = re.findall(r"Depends: (linux-(?:image|binary|modules|base)-\S+)", said)
        queue += [name for name in needs if name not in wanted]
    _run("apt-get", *options, "-qq", "download", *wanted, cwd=apt / "debs")
    return sorted((apt / "debs").glob("*.deb"))


def _initrd(modules: Path, scratch: Path, target: Path) -> None:
    for name in ("bin", "modules"):
        (scratch / name).mkdir(parents=True)
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", scratch / "bin/busybox")
    order: list[str] = []
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    for name in _DISK_MODULES:
        path = next((path for path in needs if Path(path).name.split(".")[0] == name), None)
        if path is None:
            continue  # built in
        for module in [*reversed(needs[path].split()), path]:
            stem = Path(module).name.split(".")[0] + ".ko"
            if stem not in order:
                order.append(stem)
                packed = (modules / module).read_bytes()
                plain = lzma.decompress(packed) if module.endswith(".xz") else packed
                (scratch / "modules" / stem).write_bytes(plain)
    (scratch / "modules/order").write_text("".join(f"{name}\n" for name in order))
    (scratch / "init").write_text(_INIT)
    (scratch / "init").chmod(0o755)
    names = "".join(f"{path.relative_to(scratch)}\n" for path in sorted(scratch.rglob("*")))
    packed = subprocess.run(
        ["busybox", "cpio", "-o", "-H", "newc"], cwd=scratch, input=names.encode(),
        capture_output=True, check=True,
    )  # fmt: skip
    target.write_bytes(packed.stdout)


def _run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, check=True)
    return done.stdout.decode()
