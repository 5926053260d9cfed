"""The Launch while it is being put together, and what its values mean to each other."""

from __future__ import annotations

import os
from typing import Any

from donjon.config.entry import Entry
from donjon.config.spec import EmperorSpec, Launch
from donjon.errors import ConfigError, OptionError
from donjon.fork_pty import check
from donjon.fork_pty.spec import RouterSpec, SharedSpec
from donjon.hooks.spec import Hook
from donjon.jail.spec import JailSpec
from donjon.origin import DEFAULT, Origin
from donjon.records import replace
from donjon.server.spec import Application, Listener, ServerSpec

PORT_MAX = 65535


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
        "abstract_sockets",
        "advice",
        "born_in",
        "default_protocol",
        "emperor",
        "fallback_config",
        "hooks",
        "jail",
        "plan",
        "plan_origin",
        "pty",
        "routers",
        "server",
        "shared_sockets",
        "sockets",
        "spawn",
        "strict",
        "terminals",
    )

    def __init__(self) -> None:
        """Start with nothing given."""
        self.jail = Part()
        self.server = Part()
        self.emperor = Part()
        self.terminals = Part()
        self.pty = Part()
        self.hooks: list[Hook] = []
        self.sockets: list[tuple[str, str, Origin]] = []  # address, protocol ("": default), origin
        self.routers: list[tuple[str, Origin]] = []
        self.shared_sockets: list[tuple[str, Origin]] = []
        self.default_protocol = "uwsgi"
        self.abstract_sockets = False
        self.born_in: frozenset[str] = frozenset()
        self.fallback_config: str | None = None
        self.spawn: str | None = None
        self.plan: str | None = None
        self.plan_origin = DEFAULT
        self.strict = False
        self.advice: list[Advice] = []

    def part(self, name: str) -> Part:
        """Return the part that rows of the table call ``name``."""
        part: Part = getattr(self, name)
        return part

    def warn(self, what: str, origin: Origin) -> None:
        """Note something that the log should say and that stops nothing."""
        self.advice.append(Advice(what, origin=place(origin)))

    def refuse(self, what: str, origin: Origin) -> None:
        """Raise ConfigError for a value that was read and cannot be done."""
        raise ConfigError(what, origin=place(origin))

    def finish(self, entries: tuple[Entry, ...], *, argv0: str, under_emperor: bool) -> Launch:
        """Return the Launch. Raises OptionError for a shared socket that does not exist."""
        self._settle_emperor()
        self._settle_pids()
        self._settle_sockets()
        if under_emperor:
            self._settle_vassal()
        self._settle_terminals()
        self._settle_pty()
        self._settle_services()
        self.server.values["options"] = tuple((entry.key, entry.value or "") for entry in entries)
        jail = self.jail.values
        jail["expose"] = _exposed(self.server.values)
        if self.born_in:
            jail["clone_flags"] = self.born_in.union(jail.get("clone_flags", ()))
        sources = self.emperor.values.get("sources")
        return Launch(
            entries=entries,
            jail=JailSpec(**self.jail.fields()),
            hooks=tuple(self.hooks),
            server=ServerSpec(**self.server.fields()),
            emperor=EmperorSpec(**self.emperor.fields()) if sources else None,
            fallback_config=self.fallback_config,
            spawn=self.spawn,
            plan=self.plan,
            plan_origin=place(self.plan_origin),
            strict=self.strict,
            argv0=argv0,
        )

    def _settle_emperor(self) -> None:
        if "sources" in self.emperor.values:
            self.jail.values["keep_root"] = True
            self.emperor.values["stats_http"] = self.server.values.get("stats_http", False)

    def _settle_pids(self) -> None:
        """Without a refork the next child, whichever it is, would be the first process."""
        values = self.jail.values
        if any(values.get(name) for name in ("refork", "refork_as_root", "refork_post_jail")):
            return
        for field, added in (("unshare", "refork-post-jail"), ("unshare2", "refork-as-root")):
            if "pid" in values.get(field, ()):
                values[added.replace("-", "_")] = True
                what = f"{field} = pid begins with the next process; {added} is added"
                self.warn(what, self.jail.origins[field])
                return

    def _settle_services(self) -> None:
        """Say what nobody does where there is no master."""
        values = self.server.values
        for field in ("setns_socket", "mountpoint_checks", "terminals", "pty"):
            if values.get(field) and not (
                values.get("master") or "sources" in self.emperor.values
            ):
                origin = self._asked_at(field)
                self.warn(f"{origin.option or field} does nothing without a master", origin)

    def _asked_at(self, field: str) -> Origin:
        found = self.server.origins.get(field)
        return found or self.terminals.origins["doors"]

    def _settle_terminals(self) -> None:
        """A router needs an address, and says what it cannot do before anything is started."""
        self._settle_outside()
        doors = self.terminals.values.get("doors")
        if not doors:
            return
        if self.abstract_sockets:
            self.terminals.values["doors"] = [
                replace(door, address=self._address(door.address)) for door in doors
            ]
        spec = RouterSpec(**self.terminals.fields())
        for door in spec.doors:
            _check_port(door.address, door.origin)
        check.check(spec)
        self.server.values["terminals"] = spec

    def _settle_outside(self) -> None:
        """An Emperor's terminals are served as its own forkpty options say."""
        if "sources" not in self.emperor.values:
            return
        fields = {name: one for name, one in self.terminals.fields().items() if name != "doors"}
        spec = RouterSpec(**fields)
        if "terminals" in self.emperor.values:
            check.check(spec)
        self.emperor.values["terminal_router"] = spec

    def _settle_pty(self) -> None:
        """The terminal of worker 1 lets in whom the router lets in by the kernel's word."""
        values = self.pty.values
        if not values.get("socket"):
            return
        values["socket"] = self._address(values["socket"])
        for name in ("uids", "gids", "insecure"):
            if name in self.terminals.values:
                values[name] = self.terminals.values[name]
        spec = SharedSpec(**self.pty.fields())
        origin = self.pty.origins["socket"]
        _check_port(spec.socket, origin)
        check.check_shared(spec)
        self.server.put("pty", spec, origin)

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
            _check_port(address, origin)
            return Listener(self._address(address), protocol, origin)
        index = address[1:]
        if not index.isdigit() or int(index) >= len(self.shared_sockets):
            count = len(self.shared_sockets)
            raise OptionError(
                f"there is no shared socket {address}",
                origin=place(origin),
                reason=f"{count} given" if count else "no shared-socket is given",
            )
        shared = self._address(self.shared_sockets[int(index)][0])
        _check_port(shared, self.shared_sockets[int(index)][1])
        return Listener(shared, protocol, origin, shared=True)

    def _address(self, address: str) -> str:
        is_file = ":" not in address and not address.startswith("@")
        return "@" + address if self.abstract_sockets and is_file else address


def _check_port(address: str, origin: Origin) -> None:
    """Refuse what no TCP port can be. Raises OptionError."""
    port = address.rpartition(":")[2]
    if ":" not in address or "://" in address or address.startswith(("@", "\\0")):
        return
    if not port.isdecimal() or int(port) > PORT_MAX:
        raise OptionError(
            f"cannot listen on {address}",
            origin=place(origin),
            reason=f"'{port}' is no port: ports are numbers from 0 to {PORT_MAX}",
        )


def place(origin: Origin) -> Origin:
    """Return the place of a key without the key, which our messages name themselves."""
    return Origin(origin.source, origin.line) if origin.option else origin


def _exposed(server: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of the application that a jail with ``rootfs = host`` must show.

    Relative ones count from ``chdir``, as they do when the application is loaded; without it they
    are below the Emperor's own directory, which is no customer's to see.
    """
    base = server.get("chdir") or ""
    found = [base] if base else []
    for application in server.get("applications", ()):
        found.extend(_application_paths(application))
    found.extend(server.get("pythonpath", ()))
    found.extend(os.path.dirname(mule) or "." for mule in server.get("mules", ()) if mule)
    if server.get("virtualenv"):
        found.append(server["virtualenv"])
    whole = (os.path.normpath(os.path.join(base, path)) for path in found)
    return tuple(dict.fromkeys(path for path in whole if path.startswith("/")))


def _application_paths(application: Application) -> list[str]:
    """Return the directory of an application's file; a module has none that we know."""
    is_file = application.kind in ("wsgi-file", "pyrun")
    if application.kind == "mount":
        is_file = "/" in application.target or application.target.endswith((".py", ".wsgi"))
    return [os.path.dirname(application.target) or "."] if is_file else []
