"""The filter of system calls: what is refused, how, to whom, and what programs do not notice."""

import ctypes
import errno
import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import termios
import threading

import pytest
from jailer import FIVE, Note, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import libseccomp, plan, seccomp, seccomp_profile
from donjon.jail.phase import Phase
from donjon.jail.seccomp_groups import GROUPS, YOUNGEST, Level
from donjon.jail.seccomp_profile import Profile
from donjon.jail.spec import Exec, JailSpec
from donjon.origin import Origin
from donjon.records import replace

pytestmark = pytest.mark.root
USER = JailSpec(uid="20001", jailed=True)
LINE = Origin("/etc/v/a.ini", 3, "seccomp")


def call(name, *args):
    """Make a call by its name; return the error's name, or the result."""
    number = name if isinstance(name, int) else libseccomp.number_of(name)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result


def with_profile(text, **more):
    return JailSpec(
        uid="20001", jailed=True, seccomp=seccomp_profile.parse(text), **more,
        origins={"seccomp": LINE},
    )  # fmt: skip


# -- what is refused --------------------------------------------------------------------------------

REFUSED = [
    (group.name, name)
    for group in GROUPS.values()
    if group.level is Level.REFUSED
    for name in group.calls
    if libseccomp.number_of(name) is not None
]


def test_every_call_of_a_refused_group_is_refused_in_every_jail(jail):
    def look():
        return {name: call(name, 0, 0, 0, 0, 0, 0) for _, name in REFUSED}

    expected = {
        name: "ENOSYS" if GROUPS[group].error == errno.ENOSYS or name == "clone3" else "EPERM"
        for group, name in REFUSED
    }
    assert jail(USER, look) == expected


@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000]
)
def test_no_namespace_is_made_by_unshare_or_clone(jail, flag):
    def look():
        return call("unshare", flag), call("clone", flag | 17, 0, 0, 0, 0), call("unshare", 0x80)

    assert jail(JailSpec(jailed=True, uid="20001"), look) == ("EPERM", "EPERM", "EPERM")


def test_what_is_shared_with_threads_alone_may_be_unshared(jail):
    assert jail(USER, lambda: call("unshare", syscalls.CLONE_FILES | syscalls.CLONE_FS)) == 0


@pytest.mark.parametrize(
    "family", [0, 3, 4, 5, 9, 17, 21, 29, 30, 31, 38, 40, 44, 45, 1 << 33 | 2]
)
def test_sockets_of_other_families_are_refused(jail, family):
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)

    def look():
        return {call("socket", family, kind, 0) for kind in kinds} | {
            call("socketpair", family, kind, 0, 0) for kind in kinds
        }

    assert jail(USER, look) == {"EPERM"}


def test_sockets_of_the_web_and_of_routes_work(jail):
    def look():
        made = [
            socket.socket(family, kind)
            for family, kind in (
                (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET6, socket.SOCK_DGRAM),
                (socket.AF_NETLINK, socket.SOCK_RAW),
            )
        ]
        left, right = socket.socketpair()
        for one in (*made, left, right):
            one.close()
        return [one.family.name for one in made], call("socket", 16, 3, 12)

    names = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]
    assert jail(USER, look) == (names, "EPERM")  # NETLINK_NETFILTER


@pytest.mark.parametrize("number", [termios.TIOCSTI, termios.TIOCLINUX, termios.TIOCSETD])
def test_nobody_types_into_a_terminal(jail, number):
    ours, theirs = os.openpty()

    def look():
        high = number | 7 << 32  # the kernel looks at the lower half (CVE-2023-1523)
        return call("ioctl", theirs, number, 0), call("ioctl", theirs, high, 0)

    seen = jail(USER, look)
    os.close(ours)
    os.close(theirs)
    assert seen == ("EPERM", "EPERM")


def test_a_terminal_works_otherwise(jail):
    ours, theirs = os.openpty()
    seen = jail(USER, lambda: (os.isatty(theirs), termios.tcgetwinsize(theirs)))
    os.close(ours)
    os.close(theirs)
    assert seen == (True, (0, 0))


def test_a_personality_can_be_asked_for_and_not_changed(jail):
    def look():
        return (
            call("personality", 0xFFFFFFFF),
            call("personality", 0x0040000),
            call("personality", 8),
        )

    assert jail(USER, look) == (0, "EPERM", "EPERM")


@pytest.mark.parametrize(("merges", "seen"), [(False, "EPERM"), (True, 0)])
def test_pages_are_merged_only_where_the_operator_lets_them(jail, merges, seen):
    def look():
        pages = mmap.mmap(-1, mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        return (
            call("madvise", address, mmap.PAGESIZE, syscalls.MADV_MERGEABLE),
            call("prctl", syscalls.PR_SET_MEMORY_MERGE, 0, 0, 0, 0),
            call("madvise", address, mmap.PAGESIZE, mmap.MADV_WILLNEED),
        )

    assert jail(replace(USER, merges=merges), look) == (seen, seen, 0)


def test_calls_younger_than_the_table_do_not_exist(jail):
    numbers = (YOUNGEST + 1, YOUNGEST + 100, 0x3FFFFFFF)
    assert jail(USER, lambda: [call(one, 0) for one in numbers]) == ["ENOSYS"] * 3


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is of this machine alone")
def test_calls_of_the_x32_abi_are_refused(jail):
    assert jail(USER, lambda: (call(0x40000000 | 39), call(0x40000000 | 272))) == ("EPERM",) * 2


OLD_ABI = """
#include <stdio.h>
int main(void) { long result; __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
printf("%ld", result); return 0; }
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the gate is of this machine alone")
def test_calls_of_the_32_bit_abi_are_refused(jail, tmp_path):
    (tmp_path / "old.c").write_text(OLD_ABI)
    program = tmp_path / "old"
    subprocess.run(["gcc", "-o", program, tmp_path / "old.c"], check=True)
    for one in (program, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        one.chmod(0o755)
    plain = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert int(plain) > 0  # getpid, so this kernel has the gate

    def look():
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout

    assert jail(USER, look) == str(-errno.EPERM)


def test_every_call_is_in_the_table():
    library = ctypes.CDLL(libseccomp.LIBRARY)
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    native = library.seccomp_arch_native()
    known = {
        name.decode()
        for number in range(YOUNGEST + 1)
        if (name := library.seccomp_syscall_resolve_num_arch(native, number))
    }
    table = [name for group in GROUPS.values() for name in group.calls]
    alone = {when.call for group in GROUPS.values() for when in group.when}
    assert known - set(table) - alone == set()
    assert sorted(table) == sorted(set(table))


def test_every_group_says_what_it_is_for():
    assert all(group.about.endswith(".") and group.about[0].isupper() for group in GROUPS.values())


# -- who has it -------------------------------------------------------------------------------------


def test_a_jail_is_filtered_and_what_is_no_jail_is_not(jail):
    assert jail(USER, lambda: (status_of("Seccomp"), status_of("NoNewPrivs"))) == ("2", "1")
    assert jail(JailSpec(uid="20001"), lambda: status_of("Seccomp")) == "0"
    assert jail(with_profile("off"), lambda: status_of("Seccomp")) == "0"
    asked = JailSpec(uid="20001", seccomp=Profile("default"))
    assert jail(asked, lambda: (status_of("Seccomp"), status_of("NoNewPrivs"))) == ("2", "1")


def test_children_threads_and_programs_inherit_the_filter(jail):
    def look():
        found = [subprocess.run(["grep", "-c", "^Seccomp:.2", "/proc/self/status"],
                                capture_output=True, text=True, check=True).stdout]  # fmt: skip
        thread = threading.Thread(target=lambda: found.append(call("bpf", 0, 0, 0)))
        thread.start()
        thread.join()
        pid, pidfd = syscalls.clone3(0)
        if pid == 0:
            os._exit(call("keyctl", 0, 0, 0) != "EPERM")
        found.append(os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status)
        os.close(pidfd)
        return found

    assert jail(USER, look) == ["1\n", "EPERM", 0]


def test_threads_that_are_there_already_follow(jail):
    held, ready = threading.Event(), threading.Event()
    seen = []

    def work(context):
        def body():
            ready.set()
            held.wait()
            seen.append(call("bpf", 0, 0, 0))

        thread = threading.Thread(target=body)
        thread.start()
        ready.wait()
        context.variables["thread"] = thread

    def look():
        held.set()
        [thread] = [one for one in threading.enumerate() if one is not threading.main_thread()]
        thread.join()
        return seen

    hook = Note(Phase.ASAP, work)
    assert jail(JailSpec(seccomp=Profile("default")), look, hooks=[hook]) == ["EPERM"]


def test_siblings_are_born_without_clone3(jail):
    """CLONE_PARENT and the pid descriptor are those of clone(2)."""

    def look():
        reader, writer = os.pipe()
        pid, pidfd = syscalls.clone3(syscalls.CLONE_PARENT, exit_signal=0)
        if pid == 0:
            os.write(writer, b"%d %d" % (os.getppid(), os.getpid()))
            os._exit(0)
        os.close(writer)
        parent, own = map(int, os.read(reader, 64).split())
        os.close(pidfd)
        return call("clone3", 0, 0), parent == os.getppid(), own == pid, pid

    *seen, pid = jail(USER, look)
    os.waitpid(pid, 0)
    assert seen == ["ENOSYS", True, True]


@pytest.mark.parametrize("flags", [syscalls.CLONE_NEWTIME, syscalls.CLONE_CLEAR_SIGHAND])
def test_what_only_clone3_can_do_is_enosys_without_it(jail, flags):
    def look():
        try:
            syscalls.clone3(flags)
        except OSError as error:
            return error.errno
        return 0

    assert jail(USER, look) == errno.ENOSYS


def test_an_emperor_in_a_jail_may_make_jails(jail):
    spec = JailSpec(jailed=True, keep_root=True)

    def look():
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
        if pid == 0:
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            os._exit(0)
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status
        os.close(pidfd)
        return status, call("bpf", 0, 0, 0), call("kexec_load", 0, 0, 0), status_of("NoNewPrivs")

    assert jail(spec, look) == (0, "EPERM", "EPERM", "0")


def test_a_capability_brings_the_calls_it_is_for(jail):
    spec = JailSpec(uid="20001", jailed=True, cap=frozenset({syscalls.CAP_SYS_CHROOT}))
    assert jail(spec, lambda: os.chroot("/")) is None
    less = with_profile("default -chroot", cap=frozenset({syscalls.CAP_SYS_CHROOT}))
    assert jail(less, lambda: call("chroot", 0)) == "EPERM"


# -- profiles ---------------------------------------------------------------------------------------


def test_groups_are_added_and_taken_away(jail):
    def look():
        return call("ptrace", 99, 0, 0, 0), call("shmget", 0, 0, 0), call("execve", 0, 0, 0)

    assert jail(with_profile("+trace -ipc -exec"), look) == ("ESRCH", "EPERM", "EPERM")


def test_strict_refuses_what_few_need(jail):
    def look():
        fd = os.open("/proc/self/status", os.O_RDONLY)
        return (
            call("shmget", 0, 4096, 0o1600), call("io_setup", 1, 0), call("setpriority", 0, 0, 5),
            call("fchmod", fd, 0o4755), call("fchmod", fd, 0o2755), call("fchmod", fd, 0o444),
        )  # fmt: skip

    assert jail(with_profile("strict"), look) == ("EPERM",) * 6  # the last by procfs
    assert jail(USER, look)[0] != "EPERM"


def test_strict_makes_no_file_that_runs_as_another(jail, tmp_path):
    tmp_path.chmod(0o777)
    names = [f"{tmp_path}/{number}".encode() for number in range(5)]

    def look():
        places = [ctypes.create_string_buffer(name) for name in names]
        at = [ctypes.addressof(place) for place in places]
        new, bad = os.O_CREAT | os.O_WRONLY, 0o4755
        return (
            call("open", at[0], new, bad), call("openat", -100, at[1], new, 0o2755),
            call("creat", at[2], bad), call("mknod", at[3], stat.S_IFREG | bad, 0),
            call("mknodat", -100, at[3], stat.S_IFREG | bad, 0),
            call("openat2", -100, at[4], 0, 0),
            call("open", at[4], new, 0o755) > 0,
            call("openat", -100, at[4], os.O_RDONLY, bad) > 0,  # nothing is made: no mode
        )  # fmt: skip

    assert jail(with_profile("strict"), look) == (*["EPERM"] * 5, "ENOSYS", True, True)
    assert [os.path.exists(name) for name in names] == [False] * 4 + [True]


def test_without_no_new_privs_the_filter_stands_before_the_drop(jail):
    spec = JailSpec(uid="20001", jailed=True, no_new_privs=False)
    seen = jail(spec, lambda: (status_of("NoNewPrivs"), status_of("Seccomp"), os.getuid()))
    assert seen == ("0", "2", 20001)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a profile is missing"),
        ("hard", "'hard' is none of default, strict, emperor, off, learn, +group, -group"),
        ("default +fly", "'+fly' is no +group or -group"),
        ("default strict", "'strict' is no +group or -group"),
        ("+ipc -ipc", "ipc is both added and taken away"),
        ("-basic", "no program runs without the group basic"),
        ("off +ipc", "nothing can follow off"),
        ("learn:file", "learn:FILE needs an absolute path"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(text, reason):
    with pytest.raises(ValueError, match=r".") as caught:
        seccomp_profile.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text", ["default", "strict", "off", "emperor", "default +trace -ipc", "strict -exec"]
)
def test_a_profile_is_written_as_it_is_read(text):
    assert str(seccomp_profile.parse(text)) == text


def test_a_plan_says_which_profile_and_who_asked():
    made = plan.build(with_profile("strict -exec"), root=True)
    assert (
        made.describe()[-1] == "drop: filter system calls: strict -exec [/etc/v/a.ini:3: seccomp]"
    )


def test_a_filter_that_forbids_the_program_to_execute_is_refused():
    spec = with_profile("-exec", unprivileged_exec=Exec("/bin/true"))
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True)
    assert str(caught.value) == (
        "/etc/v/a.ini:3: seccomp: seccomp refuses exec, and a program is to be executed: "
        "by /bin/true"
    )


def test_a_filter_before_the_drop_must_allow_the_drop():
    with pytest.raises(JailError, match="refuses identity, and the drop is still to come"):
        plan.build(with_profile("-identity", no_new_privs=False), root=True)


def test_without_root_and_no_new_privs_nobody_can_filter():
    spec = JailSpec(seccomp=Profile("default"), no_new_privs=False)
    with pytest.raises(JailError, match="seccomp needs no-new-privs: only root may"):
        plan.build(spec, root=False)


def test_without_libseccomp_the_start_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(libseccomp, "LIBRARY", "libseccomp.so.none")
    libseccomp._library.cache_clear()
    seccomp.program.cache_clear()
    try:
        with pytest.raises(JailError) as caught:
            plan.build(USER, root=True)
    finally:
        libseccomp._library.cache_clear()
    assert "libseccomp.so.none cannot be loaded" in str(caught.value)
    assert "install libseccomp2, or set seccomp = off" in str(caught.value)


def test_a_filter_that_the_kernel_refuses_ends_the_start(jail):
    told = jail.tell(USER, inject=("seccomp_filter", errno.ENOMEM))
    assert told.error == ("default: cannot filter system calls: default: Cannot allocate memory")
    assert told.status == 1


def test_one_program_serves_all_births():
    first, second = (plan.build(USER, root=True).steps[-1] for _ in range(2))
    assert first.code is second.code
    assert len(first.code) // 8 < 400


# -- what programs notice ---------------------------------------------------------------------------

PYTHON = """
import asyncio, ctypes, concurrent.futures, multiprocessing, os, socket, subprocess, tempfile, threading
import hashlib, sqlite3, ssl, time, mmap, fcntl, shutil, select, signal
def double(n): return n * 2
def main():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(double, [1, 2]) == [2, 4]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(double, [1])) == [2]
    assert asyncio.run(asyncio.sleep(0, 5)) == 5
    with tempfile.TemporaryDirectory() as place:
        shutil.copy2("/etc/passwd", place)
        base = sqlite3.connect(place + "/db"); base.execute("create table t(a)"); base.close()
    assert subprocess.run(["true"]).returncode == 0
    socket.getaddrinfo("localhost", 80)
    server = socket.create_server(("127.0.0.1", 0)); server.close()
    ssl.create_default_context(); hashlib.sha256(b"a").hexdigest()
    os.sched_getaffinity(0); os.getrandom(4); mmap.mmap(-1, 4096).close()
main(); print("fine")
"""
NODE = """
const fs=require("fs"),os=require("os"),cp=require("child_process"),http=require("http"),
 {Worker}=require("worker_threads"),dns=require("dns"),crypto=require("crypto");
const d=fs.mkdtempSync(os.tmpdir()+"/n"); fs.writeFileSync(d+"/a","b"); fs.watch(d).close();
fs.rmSync(d,{recursive:true}); os.networkInterfaces(); os.cpus(); cp.execFileSync("true");
const w=new Worker("require('worker_threads').parentPort.postMessage(1)",{eval:true});
w.on("message",()=>{ const s=http.createServer((q,r)=>r.end("x")).listen(0,"127.0.0.1",()=>{
 http.get({port:s.address().port,host:"127.0.0.1"},r=>{r.resume();r.on("end",()=>{s.close();
 crypto.pbkdf2("a","b",9,9,"sha1",()=>fs.promises.readFile("/etc/passwd").then(()=>
 dns.lookup("localhost",()=>console.log("fine"))))})})})});
"""
PHP = """
$f=tempnam(sys_get_temp_dir(),"p"); file_put_contents($f,"a",LOCK_EX); unlink($f); session_id();
$s=stream_socket_server("tcp://127.0.0.1:0"); fclose($s); shell_exec("true"); gethostbyname("localhost");
random_bytes(8); password_hash("a",PASSWORD_BCRYPT); preg_match("/a+/","aaa"); usleep(1);
$p=proc_open(["true"],[],$x); proc_close($p); echo "fine\n";
"""
RUBY = """
require "socket"; require "tmpdir"; require "digest"; require "open3"; require "etc"
Dir.mktmpdir { |d| File.write(d + "/a", "b"); File.rename(d + "/a", d + "/c") }
Process.wait(fork { exit! 0 }); Open3.capture2("true"); Thread.new { 1 }.value; Etc.getpwuid(0)
TCPServer.new("127.0.0.1", 0).close; Addrinfo.getaddrinfo("localhost", 80); Digest::SHA256.hexdigest("a")
Socket.getifaddrs; puts "fine"
"""
PERL = 'use Socket; socket(my $s,PF_INET,SOCK_STREAM,0); system("true"); my $p=fork; exit 0 unless $p; wait; print "fine\n"'
PROGRAMS = [
    pytest.param([sys.executable, "-P", "-c", PYTHON], id="python"),
    pytest.param(["node", "-e", NODE], id="node"),
    pytest.param(["php", "-r", PHP], id="php"),
    pytest.param(["ruby", "-e", RUBY], id="ruby"),
    pytest.param(["perl", "-e", PERL], id="perl"),
    pytest.param(["sh", "-c", "ls / | sort | head -1 >/dev/null; date >/dev/null; ps ax >/dev/null; echo fine"],
                 id="shell"),
]  # fmt: skip


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize("command", PROGRAMS)
def test_ordinary_programs_do_not_notice(jail, command, profile):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on this machine")
    if profile == "strict" and command[0] == "sh":
        command = [*command[:2], "ls / >/dev/null; date >/dev/null; echo fine"]

    def look():
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, cwd="/tmp",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        return done.stdout.replace("\n", ""), done.stderr

    assert jail(with_profile(profile), look) == ("fine", "")


def test_a_filter_costs_a_birth_one_call(jail, tmp_path):
    """The step is one seccomp(2), and the program is no longer than the kernel takes."""
    step = plan.build(USER, root=True).steps[-1]
    assert isinstance(step, seccomp.FilterCalls)
    assert len(step.code) % struct.calcsize("HBBI") == 0
    counted = jail(
        JailSpec(uid="20001"),
        lambda: syscalls.set_no_new_privs() or step.execute(None) or status_of("Seccomp_filters"),
    )
    assert counted == "1"


def test_the_whole_jail_is_filtered_in_its_own_namespaces(jail):
    spec = JailSpec(uid="20001", rootfs="host")
    born = FIVE | {"user"}
    assert jail(spec, lambda: (status_of("Seccomp"), call("mount", 0, 0, 0, 0, 0)), born_in=born) == (
        "2", "EPERM",
    )  # fmt: skip
