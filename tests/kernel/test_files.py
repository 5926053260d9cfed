"""openat2: a path of a stranger never leaves the directory it is resolved under."""

import errno
import os
import select
import signal
import threading
from pathlib import Path

import pytest

from donjon import syscalls as s


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "passwd").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "root" / "up").symlink_to("../secret")
    (tmp_path / "root" / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "root" / "magic").symlink_to("/proc/self/root")
    number = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    yield number
    os.close(number)


def read(number: int) -> str:
    with os.fdopen(number) as file:
        return file.read()


def test_a_descriptor_is_close_on_exec(tree):
    number = s.openat2(tree, "etc/passwd", os.O_RDONLY)
    assert not os.get_inheritable(number)
    os.close(number)


def test_an_absolute_link_ends_inside_the_root(tree):
    assert read(s.openat2(tree, "absolute", os.O_RDONLY, 0, s.RESOLVE_IN_ROOT)) == "inside"


@pytest.mark.parametrize(
    ("path", "resolve", "number"),
    [
        ("up", s.RESOLVE_BENEATH, errno.EXDEV),
        ("up", s.RESOLVE_IN_ROOT, errno.ENOENT),
        ("up", s.RESOLVE_NO_SYMLINKS, errno.ELOOP),
        ("../secret", s.RESOLVE_BENEATH, errno.EXDEV),
        ("magic", s.RESOLVE_NO_MAGICLINKS, errno.ELOOP),
    ],
)
def test_a_way_out_is_refused(tree, path, resolve, number):
    with pytest.raises(OSError, match=r".") as caught:
        s.openat2(tree, path, os.O_RDONLY, 0, resolve)
    assert caught.value.errno == number
    assert caught.value.filename == path


def test_a_new_file_gets_its_mode(tree):
    number = s.openat2(tree, "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    assert os.fstat(number).st_mode & 0o777 == 0o640
    os.close(number)


def test_flags_that_the_kernel_does_not_know_are_refused(tree):
    with pytest.raises(OSError, match="Invalid argument"):
        s.openat2(tree, "etc", os.O_RDONLY | 1 << 40)


OPENAT2 = "437"


class WakenedError(Exception):
    pass


@pytest.fixture
def fifo(tmp_path):
    """A fifo whose opening blocks, and ``beside(function)``: runs it once this thread is blocked."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    threads = []
    main = threading.get_native_id()

    def beside(function):
        def wait_then_run():
            while Path(f"/proc/self/task/{main}/syscall").read_text().split()[0] != OPENAT2:
                select.select([], [], [], 0.002)
            function()

        threads.append(threading.Thread(target=wait_then_run))
        threads[-1].start()

    yield path, beside
    for thread in threads:
        thread.join()


@pytest.fixture
def on_signal():
    """Set the handler of SIGUSR1 for the test."""
    old = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, old)


def _wake() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


def test_a_call_that_blocks_lets_other_threads_run(fifo):
    path, beside = fifo
    beside(lambda: os.close(os.open(path, os.O_WRONLY)))
    os.close(s.openat2(s.AT_FDCWD, path, os.O_RDONLY))


def test_a_call_goes_on_after_a_signal(fifo, on_signal):
    path, beside = fifo
    seen = []

    def handler(number, frame):
        seen.append(number)
        beside(lambda: os.close(os.open(path, os.O_WRONLY)))

    on_signal(handler)
    beside(_wake)
    os.close(s.openat2(s.AT_FDCWD, path, os.O_RDONLY))
    assert seen == [signal.SIGUSR1]


def test_a_call_ends_with_what_the_handler_raised(fifo, on_signal):
    path, beside = fifo

    def handler(number, frame):
        raise WakenedError

    on_signal(handler)
    beside(_wake)
    with pytest.raises(WakenedError):
        s.openat2(s.AT_FDCWD, path, os.O_RDONLY)
