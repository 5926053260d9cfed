"""What Python can try in a jail. It is loaded by path inside, and imports nothing of ours.

As a WSGI application: /NAME?WORD&WORD runs one probe in a child and answers with JSON, /c/VERB?WORD
runs the C program beside this file with all that is open here. As a program: ``probe.py NAME WORD``.
"""

import ctypes
import errno
import json
import os
import resource
import socket
import stat
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUSER = 0x20000, 0x2000000, 0x10000000
MS_REMOUNT, MS_BIND = 32, 4096
AT_FDCWD = -100


def syscall(number, *arguments):
    """The name of the error of a raw system call, "done" without one."""
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def word(text):
    """A C string."""
    return ctypes.c_char_p(text.encode())


def attempt(function, *arguments):
    """The name of the error that a call raises, "done" without one."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except ValueError:
        return "EINVAL"
    return "done"


def writing(path):
    """What opening for writing says."""
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY)))


def content(path):
    """What can be read at the beginning of a file, or why nothing can."""
    try:
        with open(path, "rb") as file:
            return file.read(64).decode("latin-1")
    except OSError as error:
        return errno.errorcode[error.errno]


def status():
    """/proc/self/status."""
    with open("/proc/self/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def mount(source, target, kind, flags):
    """mount(2)."""
    return syscall(165, word(source), word(target), word(kind), ctypes.c_ulong(flags), None)


def mounts():
    """Mount points and their options."""
    found = {}
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields = line.split()
            found[fields[4]] = fields[5].split(",")
    return found


def roots():
    """What of which file system is mounted where."""
    found = []
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields = line.split()
            found.append([fields[3], fields[4], fields[fields.index("-") + 1]])
    return found


def give_directory(path):
    """Hand a directory of ours to whoever connects to a socket that both jails can see."""
    with open("/tmp/mine", "w") as file:
        file.write("mine")
    number = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(10)
        server.bind(path)
        server.listen()
        link, _ = server.accept()
        socket.send_fds(link, [b"x"], [number])
        link.recv(1)
    return "given"


def take_directory(path):
    """What can be read through a directory of another jail."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        _, numbers, _, _ = socket.recv_fds(link, 1, 1)
        try:
            return attempt(lambda: os.close(os.open("mine", os.O_RDONLY, dir_fd=numbers[0])))
        finally:
            link.send(b"x")


def run(*command):
    """What a program says."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return json.loads(done.stdout) if done.stdout else {"facts": {}, "status": done.returncode}


def nested():
    """Be root of a user namespace below, where the kernel lets us."""
    return syscall(272, ctypes.c_ulong(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP))


def open_descriptors():
    """Numbers and kinds of what is open; /proc/self/fd is not ours to read."""
    found = {}
    for number in range(3, 1024):
        try:
            found[number] = stat.S_IFMT(os.fstat(number).st_mode)
        except OSError:
            continue
    return found


AT_IMPORT = open_descriptors()


def directories_open():
    """Descriptors of directories, and those through which the host can be seen."""
    numbers = [n for n, kind in AT_IMPORT.items() if kind == stat.S_IFDIR]
    through = []
    for number in AT_IMPORT:
        path = ctypes.c_char_p(b"../../../../etc/shadow")
        if syscall(257, number, path, os.O_RDONLY) == "done":
            through.append(number)
    return [numbers, through]


def overwrite_programs():
    """Writing to the programs that run."""
    return {path: writing(path) for path in ("/proc/self/exe", "/proc/1/exe", sys.executable)}


def chroot_break():
    """The classic way out."""
    os.chdir("/tmp")
    os.makedirs("/tmp/breakout", exist_ok=True)
    return attempt(os.chroot, "/tmp/breakout")


def old_root():
    """Looking through every process's root, cwd and mem for another root."""
    ways = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if int(name) != os.getpid():
            for part in ("root", "cwd"):
                ways[f"{name}/{part}"] = content(f"/proc/{name}/{part}/etc/shadow")
    return {
        "root": sorted(os.listdir("/")),
        "shadow": content("/etc/shadow"),
        "root of 1": attempt(os.listdir, "/proc/1/root"),
        "ways": ways,
    }


def remount():
    """Making writable what is read-only, also as root of a nested user namespace."""
    targets = [path for path, options in mounts().items() if "ro" in options]
    first = {t: mount("none", t, "", MS_REMOUNT | MS_BIND) for t in targets}
    inside = nested()
    second = {t: mount("none", t, "", MS_REMOUNT | MS_BIND) for t in targets}
    gone = {t: syscall(166, word(t), 2) for t in targets if t != "/"}
    return {"targets": targets, "nested": inside, "all": [first, second, gone]}


def kernel_writes():
    """Settings of the host."""
    names = (
        "sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/kernel/ns_last_pid",
        "sys/vm/drop_caches", "sys/vm/overcommit_memory", "sys/net/ipv4/ip_forward",
        "sys/fs/file-max", "sys/user/max_user_namespaces", "sysrq-trigger",
        "irq/default_smp_affinity",
    )  # fmt: skip
    found = {name: writing(f"/proc/{name}") for name in names}
    nested()
    return [found, {name: writing(f"/proc/{name}") for name in names}]


def kernel_reads():
    """What the kernel tells root only, or should tell nobody in a jail."""
    names = (
        "kcore", "keys", "kallsyms", "timer_list", "kmsg", "sched_debug", "kpagecount",
        "kpageflags", "kpagecgroup", "latency_stats", "interrupts", "slabinfo", "vmallocinfo",
        "pagetypeinfo", "acpi/wakeup", "scsi/scsi", "asound/cards",
    )  # fmt: skip
    found = {name: content(f"/proc/{name}") for name in names}
    return [found, syscall(103, 3, None, 0)]


def devices():
    """Devices that can be made or are there."""
    kinds = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}
    made = {n: attempt(os.mknod, f"/tmp/{n}", k | 0o600, 0x101) for n, k in kinds.items()}
    there = sorted(os.listdir("/dev"))
    odd = [n for n in there if stat.S_ISBLK(os.lstat(f"/dev/{n}").st_mode)]
    return [made, there, odd]


def handles():
    """open_by_handle_at(2): "shocker"."""
    handle = (ctypes.c_char * 64)()
    ctypes.memmove(handle, b"\x08\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0", 16)
    return syscall(304, AT_FDCWD, handle, os.O_RDONLY)


def mount_calls():
    """The new and the old mount interface."""
    return {
        "mount": mount("none", "/tmp", "tmpfs", 0),
        "fsopen": syscall(430, word("tmpfs"), 0),
        "open_tree": syscall(428, AT_FDCWD, word("/usr"), 1),
        "pivot_root": syscall(155, word("/tmp"), word("/tmp")),
        "umount": syscall(166, word("/proc"), 2),
    }


def cgroups():
    """Own limits, as we are and as root of a nested user namespace with a cgroup namespace."""
    found = {}
    nested()
    os.makedirs("/tmp/cg", exist_ok=True)
    for kind in ("cgroup", "cgroup2"):
        data = ctypes.c_char_p(b"memory" if kind == "cgroup" else b"")
        done = syscall(165, word("none"), word("/tmp/cg"), word(kind), ctypes.c_ulong(0), data)
        found[kind] = done
        if done == "done":
            for name in ("release_agent", "memory.limit_in_bytes", "cgroup.procs", "memory.max"):
                if os.path.exists(f"/tmp/cg/{name}"):
                    found[f"{kind}/{name}"] = writing(f"/tmp/cg/{name}")
    return found


def priorities():
    """More of the machine than was given."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    more = (hard + 1, hard + 1)
    adjust = content("/proc/self/oom_score_adj")

    def lower():
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(int(adjust) - 1))

    parameter = os.sched_param(10)
    return {
        "nice": attempt(os.setpriority, os.PRIO_PROCESS, 0, -20),
        "fifo": attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, parameter),
        "files": attempt(resource.setrlimit, resource.RLIMIT_NOFILE, more),
        "oom": attempt(lower),
    }


def join():
    """setns(2) to whoever is there."""
    found = {}
    for kind in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):

        def enter(kind=kind):
            number = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
            if LIBC.setns(number, 0) < 0:
                raise OSError(ctypes.get_errno(), "setns")

        found[kind] = attempt(enter)
    return found


def capabilities():
    """What we have, and what we can get."""
    return {
        "sets": {name: int(status()[name], 16) for name in CAPABILITY_SETS},
        "root": attempt(os.setuid, 0),
        "ambient": syscall(157, 47, 2, 21, 0, 0),
    }


def groups():
    """Supplementary groups."""
    return [os.getgroups(), os.getgid(), attempt(os.setgroups, [0]), attempt(os.setgid, 0)]


def kernel_calls():
    """Calls that change the machine."""
    return {
        "reboot": syscall(169, 0xFEE1DEAD, 672274793, 0, None),
        "swapon": syscall(167, word("/tmp/x"), 0),
        "settimeofday": syscall(164, (ctypes.c_long * 2)(0, 0), None),
        "acct": syscall(163, word("/tmp/x")),
        "init_module": syscall(175, None, 0, word("")),
        "kexec_load": syscall(246, 0, 0, None, 0),
        "iopl": syscall(172, 3),
    }


def tracing():
    """Reaching into the master, which has our uid."""
    return {
        "attach": syscall(101, 16, 1, 0, 0),
        "seize": syscall(101, 0x4206, 1, 0, 0),
        "memory": writing("/proc/1/mem"),
        "environment": content("/proc/1/environ"),
        "descriptors": attempt(os.listdir, "/proc/1/fd"),
    }


def seen_processes():
    """Processes that can be named."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def signal_to(*pids):
    """kill(2) of processes of the host."""
    return {pid: attempt(os.kill, int(pid), 0) for pid in pids}


def stop_init():
    """SIGSTOP and SIGKILL to the first process of the jail."""
    return [attempt(os.kill, 1, number) for number in (19, 9)]


PROBES = {
    "A1": overwrite_programs,
    "A2": lambda: sorted(AT_IMPORT),
    "A3": directories_open,
    "A4": os.getcwd,
    "B11": chroot_break,
    "B12": old_root,
    "B12-mounts": roots,
    "B13": remount,
    "B19": kernel_writes,
    "B20": kernel_reads,
    "B21": devices,
    "B22": mounts,
    "B22-run": lambda program: run(program, "ids")["facts"],
    "B23-give": give_directory,
    "B23-take": take_directory,
    "B24": handles,
    "B25": mount_calls,
    "B29": lambda *paths: {path: content(path) for path in paths},
    "C30": cgroups,
    "C40": priorities,
    "D44": join,
    "D45": capabilities,
    "D46": groups,
    "D48": lambda: status()["NoNewPrivs"],
    "D49": kernel_calls,
    "D49-ptrace": tracing,
    "D50": signal_to,
    "D50-init": stop_init,
    "D50-seen": seen_processes,
    "D53": lambda: syscall(170, word("x"), 1),
    "D54": lambda: resource.getrlimit(resource.RLIMIT_CORE),
}


def in_a_child(function, arguments):
    """Run a probe where it spoils nothing."""
    near, far = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(near)
        try:
            answer = {"found": function(*arguments)}
        except BaseException as error:
            answer = {"raised": repr(error)}
        with open(far, "wb") as out:
            out.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(far)
    with open(near, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return data


def in_c(verb, arguments):
    """Execute the C program; it inherits what an executed program inherits here."""
    command = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe"), verb, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, close_fds=False, timeout=60)
    return done.stdout or json.dumps({"raised": f"{done.returncode} {done.stderr!r}"}).encode()


def application(environ, start_response):
    """Answer with what the probe says as JSON."""
    arguments = [word for word in environ["QUERY_STRING"].split("&") if word]
    name = environ["PATH_INFO"][1:]
    if name.startswith("c/"):
        data = in_c(name[2:], arguments)
    else:
        data = in_a_child(PROBES[name], arguments)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [data]


if __name__ == "__main__":
    print(in_a_child(PROBES[sys.argv[1]], sys.argv[2:]).decode())
