"""From entries to a Launch: each option is found, its value read, and what it says put in its
part.

A key that is no option is a placeholder and says nothing here. An option of the original that is
not built yet is named: with a warning where the same runs without it, with an error where it does
not. A customer's file (tyrant mode) may not use the keys of the operator; what the operator gives
to all vassals comes from sources of his own and may.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from donjon import log
from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.options.option import Option
from donjon.config.spec import EmperorSpec, Launch
from donjon.errors import ConfigError, OptionError
from donjon.hooks.spec import Hook
from donjon.jail.spec import JailSpec
from donjon.origin import Origin
from donjon.server.spec import Application, Listener, ServerSpec


class Advice(ConfigError):  # noqa: N818  (advice is no error)
    """Something odd in a configuration that does not stop a start."""


class Part:
    """The fields of one part of the Launch that were given, and where."""

    __slots__ = ("origins", "values")

    def __init__(self) -> None:
        """Start with nothing given."""
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}

    def put(self, field: str, value: object, origin: Origin) -> None:
        """Set a field; the last value wins."""
        self.values[field] = value
        self.origins[field] = origin

    def append(self, field: str, value: object, origin: Origin) -> None:
        """Append to a field that is a tuple in the end."""
        self.values.setdefault(field, []).append(value)
        self.origins[field] = origin

    def fields(self) -> dict[str, Any]:
        """Return the fields as the frozen record takes them."""
        given = {
            name: tuple(value) if type(value) is list else value
            for name, value in self.values.items()
        }
        given["origins"] = self.origins
        return given


class Builder:
    """The Launch while it is being put together; options write to it."""

    __slots__ = (
        "advice",
        "default_protocol",
        "emperor",
        "fallback_config",
        "hooks",
        "jail",
        "routers",
        "server",
        "shared_sockets",
        "sockets",
        "spawn",
        "strict",
    )

    def __init__(self) -> None:
        """Start with nothing given."""
        self.jail = Part()
        self.server = Part()
        self.emperor = Part()
        self.hooks: list[Hook] = []
        self.sockets: list[tuple[str, str, Origin]] = []  # address, protocol ("": default), origin
        self.routers: list[tuple[str, Origin]] = []
        self.shared_sockets: list[tuple[str, Origin]] = []
        self.default_protocol = "uwsgi"
        self.fallback_config: str | None = None
        self.spawn: str | None = None
        self.strict = False
        self.advice: list[Advice] = []

    def part(self, name: str) -> Part:
        """Return a part by its name: ``jail``, ``server`` or ``emperor``."""
        part: Part = getattr(self, name)
        return part

    def warn(self, what: str, origin: Origin) -> None:
        """Note something that the log should say and that stops nothing."""
        self.advice.append(Advice(what, origin=_place(origin)))

    def refuse(self, what: str, origin: Origin) -> None:
        """Raise ConfigError for a value that was read and cannot be done."""
        raise ConfigError(what, origin=_place(origin))

    def finish(self, entries: tuple[Entry, ...], *, argv0: str, under_emperor: bool) -> Launch:
        """Return the Launch. Raises OptionError for a shared socket that does not exist."""
        self._settle_emperor()
        self._settle_sockets()
        if under_emperor:
            self._settle_vassal()
        self.server.values["options"] = tuple((entry.key, entry.value or "") for entry in entries)
        self.jail.values["expose"] = _exposed(self.server.values)
        sources = self.emperor.values.get("sources")
        return Launch(
            entries=entries,
            jail=JailSpec(**self.jail.fields()),
            hooks=tuple(self.hooks),
            server=ServerSpec(**self.server.fields()),
            emperor=EmperorSpec(**self.emperor.fields()) if sources else None,
            fallback_config=self.fallback_config,
            spawn=self.spawn,
            strict=self.strict,
            argv0=argv0,
        )

    def _settle_emperor(self) -> None:
        if "sources" in self.emperor.values:
            self.jail.values["keep_root"] = True
            self.emperor.values["stats_http"] = self.server.values.get("stats_http", False)

    def _settle_vassal(self) -> None:
        """A vassal has a master, and never leaves its Emperor for the background."""
        values = self.server.values
        values["master"] = True
        for name in ("daemonize", "daemonize2"):
            target = values.pop(name, None)
            if target is not None:
                values["logto"] = target

    def _settle_sockets(self) -> None:
        if self.sockets:
            self.server.values["listeners"] = [self._listener(*given) for given in self.sockets]
        if self.routers:
            routers = [self._listener(address, "http11", at) for address, at in self.routers]
            self.server.values["http_routers"] = routers
        if self.shared_sockets:
            used = {address for address, _, _ in self.sockets} | {a for a, _ in self.routers}
            for index, (address, origin) in enumerate(self.shared_sockets):
                if f"={index}" not in used:
                    self.warn(f"shared-socket {address} is not used by any option", origin)

    def _listener(self, address: str, protocol: str, origin: Origin) -> Listener:
        protocol = protocol or self.default_protocol
        if not address.startswith("="):
            return Listener(address, protocol, origin)
        index = address[1:]
        if not index.isdigit() or int(index) >= len(self.shared_sockets):
            count = len(self.shared_sockets)
            raise OptionError(
                f"there is no shared socket {address}",
                origin=_place(origin),
                reason=f"{count} given" if count else "no shared-socket is given",
            )
        return Listener(self.shared_sockets[int(index)][0], protocol, origin, shared=True)


def build(
    entries: Iterable[Entry],
    *,
    argv0: str = "donjon",
    under_emperor: bool = False,
    customer: bool = False,
    operator_sources: Collection[str] = (),
    owner: tuple[int, int] | None = None,
) -> Launch:
    """Return the Launch that the entries ask for, and log what they ask for in vain.

    ``customer`` says that the entries come from a file that is not the operator's; those of
    ``operator_sources`` (as in ``Origin.source``) still are his. ``owner`` is the uid and gid
    that the customer has anyway. Raises OptionError for a value that does not fit its option,
    ConfigError for an option that is not built or not allowed.
    """
    entries = tuple(entries)
    builder = Builder()
    allowed = _allowed_to(customer, operator_sources, owner)
    for entry in entries:
        row = options.find(entry.key)
        if row is not None and not row.immediate:
            _apply(builder, row, entry, allowed)
    launch = builder.finish(entries, argv0=argv0, under_emperor=under_emperor)
    for advice in builder.advice:
        log.write(str(advice))
    return launch


def problems(
    entries: Sequence[Entry],
    *,
    customer: bool = False,
    operator_sources: Collection[str] = (),
    owner: tuple[int, int] | None = None,
) -> list[ConfigError]:
    """Return all that is wrong or odd, in order of the entries; ``Advice`` stops no start."""
    found: list[ConfigError] = []
    builder = Builder()
    allowed = _allowed_to(customer, operator_sources, owner)
    for entry in entries:
        row = options.find(entry.key)
        try:
            if row is None:
                found.extend(_near_miss(entry))
            elif not row.immediate:
                _apply(builder, row, entry, allowed)
        except ConfigError as error:
            found.append(error)
        found.extend(builder.advice)
        builder.advice.clear()
    try:
        builder.finish(tuple(entries), argv0="donjon", under_emperor=False)
    except ConfigError as error:
        found.append(error)
    return found + builder.advice


_Allowed = Callable[[Entry, Option], bool]


def _allowed_to(
    customer: bool,  # noqa: FBT001
    operator_sources: Collection[str],
    owner: tuple[int, int] | None,
) -> _Allowed:
    """Return who may use the operator's keys: everybody, or entries of his own sources.

    A customer may say again who he is: ``uid`` and ``gid`` of the owner of his file change
    nothing.
    """
    if not customer:
        return lambda _entry, _row: True

    def allowed(entry: Entry, row: Option) -> bool:
        return entry.origin.source in operator_sources or _names_owner(row, entry, owner)

    return allowed


def _names_owner(row: Option, entry: Entry, owner: tuple[int, int] | None) -> bool:
    if owner is None or not entry.value:
        return False
    try:
        if row.name == "uid":
            return _uid(entry.value) == owner[0]
        return row.name == "gid" and _gid(entry.value) == owner[1]
    except KeyError:
        return False  # a name that nobody has


def _uid(name: str) -> int:
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _apply(builder: Builder, row: Option, entry: Entry, allowed: _Allowed) -> None:
    """Do what one option says. Raises ConfigError."""
    if row.operator and not allowed(entry, row):
        raise ConfigError(
            f"{entry.key} is for the operator only",
            origin=_place(entry.origin),
            hint="it cannot stand in a customer's file",
        )
    if row.apply is None:
        _unbuilt(builder, row, entry)
        return
    try:
        value = row.parse(entry.value or "")
    except ValueError as error:
        raise _misfit(row, entry, error) from error
    row.apply(builder, value, entry.origin)


def _unbuilt(builder: Builder, row: Option, entry: Entry) -> None:
    """Warn about a harmless option that is not built; raise ConfigError for another."""
    if row.harmless:
        builder.warn(f"{entry.key} is not built yet; ignored", entry.origin)
        return
    raise ConfigError(
        f"{entry.key} is not built yet",
        origin=_place(entry.origin),
        reason=f"it belongs to {row.area}, and the application would not run as asked without it",
    )


def _misfit(row: Option, entry: Entry, error: ValueError) -> OptionError:
    example = f"for example {row.name} = {row.example}" if row.example else ""
    given = f"{entry.key} = {_shown(entry.value)}"
    return OptionError(
        f"cannot use {given}", origin=_place(entry.origin), reason=str(error), hint=example
    )


def _shown(value: str | None) -> str:
    """Return a value as a message shows it: one line of bounded length."""
    text = "" if value is None else value.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else text[:77] + "..."


def _near_miss(entry: Entry) -> list[ConfigError]:
    """Return advice for a key that is no option but looks like one."""
    meant = options.suggest(entry.key)
    if meant is None:
        return []
    return [
        Advice(
            f"{entry.key} is not an option, so it is only a placeholder",
            origin=_place(entry.origin),
            hint=f"did you mean {meant}?",
        )
    ]


def _place(origin: Origin) -> Origin:
    """Return the place without the key, which our messages name themselves."""
    return Origin(origin.source, origin.line) if origin.option else origin


def _exposed(server: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of the application that a jail with ``rootfs = host`` must show.

    Relative ones count from ``chdir``, as they do when the application is loaded.
    """
    base = server.get("chdir") or ""
    found = [base] if base else []
    for application in server.get("applications", ()):
        found.extend(_application_paths(application))
    found.extend(server.get("pythonpath", ()))
    found.extend(os.path.dirname(mule) or "." for mule in server.get("mules", ()) if mule)
    if server.get("virtualenv"):
        found.append(server["virtualenv"])
    return tuple(dict.fromkeys(os.path.normpath(os.path.join(base, path)) for path in found))


def _application_paths(application: Application) -> list[str]:
    """Return the directory of an application's file; a module has none that we know."""
    is_file = application.kind in ("wsgi-file", "pyrun")
    if application.kind == "mount":
        is_file = "/" in application.target or application.target.endswith((".py", ".wsgi"))
    return [os.path.dirname(application.target) or "."] if is_file else []
