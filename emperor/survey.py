"""Watching the sources: from inotify and rescans to CHANGED, REMOVED and new vassals.

inotify names what changed, and only that is looked at. A regular file that was just created is
left alone until its writer closes it; a link or a renamed file is whole at once. A name that
vanishes gets a moment to come back, because editors save by renaming. A rescan every
``emperor-freq`` seconds finds what inotify cannot see: targets of links, remote file systems, what
a full queue lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from donjon import log, syscalls
from donjon.config.spec import EmperorSpec
from donjon.emperor.court import Court
from donjon.emperor.reactor import Reactor, Timer
from donjon.emperor.roster import Vassal
from donjon.emperor.scanner import (
    EXTENSIONS,
    ZERG_SUFFIX,
    DirectorySource,
    Found,
    Rules,
    Source,
    parse_source,
    under_name,
)
from donjon.emperor.vassal import Event
from donjon.emperor.watch import BEGUN, OVERFLOW, VANISHED, WRITTEN, Change, Watch
from donjon.errors import ConfigError

GAP = 0.15
"""Seconds a name may be missing before its vassal is stopped."""

SETTLE = 0.02
"""Seconds in which events that ask for a whole scan are gathered."""

Happen = Callable[[Vassal, Event], None]


class Survey:
    """Knows what is in the sources, and tells when that changes."""

    def __init__(self, spec: EmperorSpec, reactor: Reactor, court: Court, happen: Happen) -> None:
        self.spec = spec
        self.reactor = reactor
        self.court = court
        self.happen = happen
        self.met: Callable[[Vassal], None] = lambda _vassal: None
        rules = Rules(
            extensions=(*EXTENSIONS, *spec.extra_extensions),
            nofollow=spec.nofollow,
            owner_nofollow=spec.tyrant_nofollow,
        )
        self.sources = [_source(text, rules) for text in spec.sources]
        self.watch = Watch()
        self._rescan: Timer | None = None
        self._soon: Timer | None = None
        self._refused: dict[str, tuple[int, int]] = {}
        self._active = False

    def begin(self) -> None:
        """Look at everything for the first time and go on watching."""
        self._active = True
        for source in self.sources:
            if isinstance(source, DirectorySource) and not os.path.isdir(source.directory):
                log.write(f"[emperor] no directory {source.directory} yet: waiting for it")
        self.watch.keep(self._directories())
        self.reactor.watch(self.watch.fileno(), lambda _events: self._changed())
        self.scan()

    def end(self) -> None:
        """Stop watching."""
        if self._active:
            self._active = False
            self.reactor.forget(self.watch.fileno())
            for timer in (self._rescan, self._soon):
                if timer is not None:
                    timer.cancel()

    def close(self) -> None:
        """Give the descriptor back."""
        self.end()
        self.watch.close()

    def scan(self) -> None:
        """Look at everything now."""
        if not self._active:
            return
        seen: set[str] = set()
        for source in self.sources:
            for found in source.scan():
                if found.name not in seen:
                    seen.add(found.name)
                    self._saw(source, found)
        for vassal in list(self.court.vassals.values()):
            if vassal.name.removesuffix(ZERG_SUFFIX) not in seen:
                self._missing(vassal)
        self.watch.keep(self._directories())
        if self._rescan is not None:
            self._rescan.cancel()
        self._rescan = self.reactor.after(max(self.spec.freq, 1), self.scan)

    def _directories(self) -> set[str]:
        return set().union(*(source.directories() for source in self.sources))

    def _changed(self) -> None:
        for change in self.watch.read():
            if change == OVERFLOW or not change.name:
                self._scan_soon()
            else:
                self._look(change)

    def _look(self, change: Change) -> None:
        for source in self.sources:
            if change.path not in source.directories():
                continue
            name = self._name_in(source, change)
            if name is None:
                if change.mask & (WRITTEN | VANISHED | syscalls.IN_CREATE):
                    self._scan_soon()  # a link's target, or a directory of a pattern
            elif change.mask & VANISHED:
                self._gone(source, name)
            elif change.mask & WRITTEN or self._is_whole(change):
                found = source.look(name)
                if found is not None:
                    self._saw(source, found, written=bool(change.mask & WRITTEN))

    def _name_in(self, source: Source, change: Change) -> str | None:
        """The name of a vassal that a change is about, if it can be told without a scan."""
        path = f"{change.path}/{change.name}"
        for name in (change.name, path):
            vassal = self.court.vassals.get(name)
            if vassal is not None and vassal.found.path == path:
                return name
        if isinstance(source, DirectorySource) and source.rules.accepts(change.name):
            return change.name
        return None

    @staticmethod
    def _is_whole(change: Change) -> bool:
        """Whether a name that was just created needs no writer to finish: links are whole."""
        if not change.mask & BEGUN & syscalls.IN_CREATE:
            return False
        try:
            status = os.lstat(f"{change.path}/{change.name}")
        except OSError:
            return False
        return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1

    def _scan_soon(self) -> None:
        if self._soon is None or self._soon.cancelled:
            self._soon = self.reactor.after(SETTLE, self.scan)

    def _saw(self, source: Source, found: Found, *, written: bool = False) -> None:
        vassal = self.court.vassals.get(found.name)
        if vassal is None:
            self._new(source, found)
            return
        if vassal.found.path != found.path:
            return  # another source has a vassal of this name
        if vassal.gap is not None:
            vassal.gap.cancel()
            vassal.gap = None
        for known in (vassal, self.court.vassals.get(found.name + ZERG_SUFFIX)):
            if known is not None:
                self._compare(known, found, written=written)

    def _new(self, source: Source, found: Found) -> None:
        if self.spec.tyrant and 0 in (found.uid, found.gid):
            if self._refused.get(found.name) != (found.uid, found.gid):
                self._refused[found.name] = (found.uid, found.gid)
                log.write(f"[emperor-tyrant] invalid permissions for vassal {found.name}")
            return
        self._refused.pop(found.name, None)
        self.met(self.court.admit(source, found))

    def _compare(self, vassal: Vassal, found: Found, *, written: bool) -> None:
        before, vassal.found = vassal.found, under_name(found, vassal.name)
        if self.spec.tyrant and (before.uid, before.gid) != (found.uid, found.gid):
            log.write(
                f"!!! permissions of file {found.name} changed. stopping the instance... !!!"
            )
            self._owner_changed(vassal, found)
        elif (before.mtime_ns, before.identity) != (found.mtime_ns, found.identity):
            vassal.impatient = True
            self.happen(vassal, Event.CHANGED)
        elif vassal.unread and (written or found.size):
            self.happen(vassal, Event.CHANGED)

    def _owner_changed(self, vassal: Vassal, found: Found) -> None:
        vassal.impatient = True
        if 0 in (found.uid, found.gid):
            log.write(f"[emperor-tyrant] invalid permissions for vassal {found.name}")
            self.happen(vassal, Event.REMOVED)
        else:
            self.happen(vassal, Event.OWNER_CHANGED)

    def _gone(self, source: Source, name: str) -> None:
        vassal = self.court.vassals.get(name)
        if vassal is not None and source.look(name) is None:
            self._missing(vassal)

    def _missing(self, vassal: Vassal) -> None:
        if vassal.gap is None:
            vassal.gap = self.reactor.after(GAP, lambda: self._still_missing(vassal))

    def _still_missing(self, vassal: Vassal) -> None:
        vassal.gap = None
        if not self._active or self.court.vassals.get(vassal.name) is not vassal:
            return
        found = vassal.source.look(vassal.name.removesuffix(ZERG_SUFFIX))
        if found is None:
            self.happen(vassal, Event.REMOVED)
            zerg = self.court.vassals.get(vassal.name + ZERG_SUFFIX)
            if zerg is not None:
                self.happen(zerg, Event.REMOVED)
        else:
            self._compare(vassal, found, written=True)


def _source(text: str, rules: Rules) -> Source:
    try:
        return parse_source(text, rules)
    except ValueError as error:
        raise ConfigError(f"cannot watch {text}", reason=str(error)) from error
