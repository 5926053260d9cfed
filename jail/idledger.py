"""The ledger of host ids: which range of them belongs to whom, for ever.

Files on disk carry numbers. A number that was one customer's yesterday and is another's today
opens the files of the first to the second, so a range is given out once and stays with its name
until an operator releases it.

The ledger is a text file, one ``BASE SIZE NAME`` a line. It is changed under a lock (flock(2) on
``FILE.lock``), as a whole: a new file is written, flushed to the disk and renamed over the old
one. Whoever dies in between has changed nothing, and nobody was told of a range that is not on
disk. Readers need no lock. A ledger that cannot be understood stops every start that needs it:
guessing could give a range twice.

Root of the host and the ids of /etc/passwd, /etc/group, /etc/subuid and /etc/subgid are never
given out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.records import dataclass, field

PATH = "/var/lib/donjon/id-ranges"
HEADER = "# Host ids of donjon's user namespaces: BASE SIZE NAME. Change it with: donjon ids\n"

POOL = (1 << 30, 2147352575)
"""First and last id of ``auto``: 16382 ranges of the usual size. Below are people and what
shadow gives to users, above are the ids that systemd and signed numbers claim."""

LAST = 0xFFFFFFFE  # -1 is no id: setresuid(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a ledger gives out: ``first`` to ``last``, and the words for it in messages."""

    first: int
    last: int
    nouns: str
    book: str
    header: str
    hint: str


IDS = Stock(
    first=POOL[0],
    last=POOL[1],
    nouns="ids",
    book="id ledger",
    header=HEADER,
    hint="donjon ids lists them, --release gives one back",
)
ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_UNSAFE = re.compile(rb"[\x00-\x20\\\x7f]")


@dataclass(frozen=True, slots=True)
class Range:
    """Ids ``base`` to ``base + size - 1`` of the host, and whose they are."""

    base: int
    size: int
    name: str = field(compare=False, default="")

    def __lt__(self, other: Range) -> bool:
        """Whether it begins before another."""
        return (self.base, self.size) < (other.base, other.size)

    @property
    def last(self) -> int:
        """The highest id."""
        return self.base + self.size - 1

    def overlaps(self, other: Range) -> bool:
        """Whether an id is in both."""
        return self.base <= other.last and other.base <= self.last

    def __str__(self) -> str:
        return f"{self.base} to {self.last}"


class Ledger:
    """One ledger. It remembers what it read as long as the file is the same."""

    def __init__(
        self, path: str = PATH, accounts: Sequence[str] = ACCOUNTS, stock: Stock = IDS
    ) -> None:
        self.path = path
        self.stock = stock
        self._accounts = tuple(accounts)
        self._known: tuple[object, dict[str, Range]] = (None, {})
        self._taken: tuple[object, tuple[Range, ...]] = (None, ())

    def ranges(self) -> tuple[Range, ...]:
        """Return all ranges, lowest first. Raises JailError for a ledger that is damaged."""
        return tuple(self._by_name().values())

    def find(self, name: str) -> Range | None:
        """Return the range of ``name``."""
        return self._by_name().get(name)

    def _by_name(self) -> dict[str, Range]:
        with _telling(f"cannot read the {self.stock.book} {self.path}"):
            identity = _identity(self.path)
            if identity is None:
                return {}
            text = None if self._known[0] == identity else _read(self.path)
        if text is not None:
            self._known = (
                identity,
                {one.name: one for one in _parse(self.path, text, self.stock)},
            )
        return self._known[1]

    def assign(self, name: str, size: int) -> Range:
        """Return the range of ``name``; it gets one of ``size`` ids if it has none."""
        found = self.find(name)
        if found is None:
            with self._locked():
                found = self.find(name)  # another process was faster
                if found is None:
                    found = self.next(name, size)
                    self._write((*self.ranges(), found))
        self._refuse_taken(found)
        return found

    def claim(self, name: str, base: int, size: int) -> Range:
        """Give ``name`` the range that it asks for. Raises JailError where it cannot be its."""
        wanted = self.could_claim(name, base, size)
        if not self._has(wanted):
            with self._locked():
                if not self._has(self.could_claim(name, base, size)):
                    self._write((*self.ranges(), wanted))
        return wanted

    def could_claim(self, name: str, base: int, size: int) -> Range:
        """Return what ``claim`` would give now, and write nothing. Raises JailError as it does."""
        wanted = Range(base, size, name)
        _check_bounds(wanted)
        self._refuse_taken(wanted)
        if not self._has(wanted):
            for one in self.ranges():
                if one.overlaps(wanted):
                    raise JailError(
                        f"{self.stock.nouns} {wanted} cannot be {name}'s",
                        reason=f"{one} are {one.name}'s",
                    )
        return wanted

    def _has(self, wanted: Range) -> bool:
        found = self.find(wanted.name)
        if found is not None and found != wanted:
            raise JailError(
                f"{self.stock.nouns} {wanted} cannot be {wanted.name}'s",
                reason=f"it has {found}, and files with those ids",
                hint=f"donjon ids --release {wanted.name}, when there are none any more",
            )
        return found is not None

    def release(self, name: str) -> Range:
        """Take a range back. Raises JailError if ``name`` has none."""
        with self._locked():
            found = self.find(name)
            if found is None:
                raise JailError(f"{name} has no {self.stock.nouns} in {self.path}")
            self._write([one for one in self.ranges() if one.name != name])
        return found

    def next(self, name: str, size: int) -> Range:
        """Return the range that ``name`` would get now. Raises JailError when there is none."""
        first, last = self.stock.first, self.stock.last
        base = first
        for one in sorted((*self.ranges(), *self._accounts_ranges())):
            if one.last < base:
                continue
            if one.base > base + size - 1:
                break
            base = -(-(one.last + 1 - first) // size) * size + first
        if base + size - 1 > last:
            count = f"{size} " if size > 1 else ""
            raise JailError(
                f"no {count}{self.stock.nouns} are left for {name}",
                reason=f"all from {first} to {last} are given out",
                hint=self.stock.hint,
            )
        return Range(base, size, name)

    def _refuse_taken(self, one: Range) -> None:
        for taken in self._accounts_ranges():
            if taken.overlaps(one):
                raise JailError(
                    f"ids {one} cannot be {one.name}'s",
                    reason=f"{max(one.base, taken.base)} is in {taken.name}",
                )

    def _accounts_ranges(self) -> tuple[Range, ...]:
        """Return the ids of the host's accounts and of what they delegate, root's first."""
        identity = tuple(_identity(path) for path in self._accounts)
        if self._taken[0] != identity:
            found = [Range(0, 1, "the host's root")]
            for path in self._accounts:
                with contextlib.suppress(FileNotFoundError):
                    found += _ids_of(path, _read(path))
            self._taken = (identity, tuple(found))
        return self._taken[1]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _telling(f"cannot lock the {self.stock.book} {self.path}"):
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o755, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = Fd(os.open(f"{self.path}.lock", flags, 0o600))
        with lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
            self._known = (None, {})  # time stamps are coarse: what matters is what is there now
            yield

    def _write(self, ranges: Iterable[Range]) -> None:
        """Replace the ledger, all of it or nothing. The lock is held."""
        ordered = sorted(ranges)
        text = self.stock.header.encode() + b"".join(map(_line, ordered))
        new = f"{self.path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with _telling(f"cannot write the {self.stock.book} {self.path}"):
            with Fd(os.open(new, flags, 0o644)) as file, contextlib.ExitStack() as undo:
                undo.callback(os.unlink, new)
                _write_all(file.fileno(), text)
                syscalls.fault("fsync")
                os.fsync(file.fileno())
                syscalls.fault("rename")
                os.rename(new, self.path)
                undo.pop_all()
            directory = os.path.dirname(self.path) or "."
            with Fd(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
                os.fsync(folder.fileno())
        self._known = (_identity(self.path), {one.name: one for one in ordered})


def _check_bounds(wanted: Range) -> None:
    if wanted.base < 1 or wanted.size < 1 or wanted.last > LAST:
        raise JailError(
            f"ids {wanted} cannot be {wanted.name}'s",
            reason=f"ids of customers are from 1 to {LAST}; 0 is the host's root",
        )


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JailError(what, reason=reason_of(error)) from error


def _identity(path: str) -> tuple[int, int, int, int] | None:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write_all(number: int, data: bytes) -> None:
    syscalls.fault("write")
    while data:
        data = data[os.write(number, data) :]


def _line(one: Range) -> bytes:
    name = _UNSAFE.sub(lambda match: b"\\%03o" % ord(match[0]), os.fsencode(one.name))
    return b"%d %d %s\n" % (one.base, one.size, name)


def _parse(path: str, text: bytes, stock: Stock) -> tuple[Range, ...]:
    found: list[Range] = []
    names: set[str] = set()
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        one = _parse_line(line)
        reason = "this is not BASE SIZE NAME" if one is None else _conflict(one, found, names)
        if one is None or reason:
            raise JailError(
                f"{path}:{number}: the {stock.book} is damaged",
                reason=reason,
                hint=f"no {stock.nouns} are given out until it is mended",
            )
        found.append(one)
        names.add(one.name)
    return tuple(found)


def _parse_line(line: bytes) -> Range | None:
    parts = line.split(b" ")
    if len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit() and parts[2]):
        return None
    name = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), parts[2])
    one = Range(int(parts[0]), int(parts[1]), os.fsdecode(name))
    return one if one.base > 0 and one.size > 0 and one.last <= LAST else None


def _conflict(one: Range, before: Sequence[Range], names: set[str]) -> str:
    """Return what is wrong with a line beside those before it; they are sorted by their bases."""
    if before and one.base <= before[-1].last:
        return f"its ids are not above those of {before[-1].name}"
    return f"{one.name} has ids already" if one.name in names else ""


def _ids_of(path: str, text: bytes) -> Iterator[Range]:
    """Yield the ids in a file of accounts or of delegated ids: passwd(5), group(5), subuid(5)."""
    delegated = path.endswith(("subuid", "subgid"))
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if delegated and len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
            if int(fields[2]):
                yield Range(int(fields[1]), int(fields[2]), path)
        elif not delegated and len(fields) >= 3:
            numbers = fields[2:4] if path.endswith("passwd") else fields[2:3]
            yield from (Range(int(one), 1, path) for one in numbers if one.isdigit())
