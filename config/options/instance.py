"""The instance as a whole: strictness, failure, how it is spawned, plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Option, Takes
from donjon.config.options.rows import unbuilt
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "instance"

_FOREIGN = frozenset(
    [
        "php",
        "psgi",
        "perl",
        "rack",
        "ruby",
        "ruby19",
        "ruby2",
        "rbthreads",
        "fiber",
        "lua",
        "luajit",
        "jvm",
        "jwsgi",
        "ring",
        "servlet",
        "mono",
        "gccgo",
        "go",
        "erlang",
        "pyerl",
        "v8",
        "pypy",
        "gridfs",
        "glusterfs",
        "rados",
        "xslt",
        "geoip",
        "ldap",
        "sqlite3",
        "coroae",
        "objc",
        "tcc",
        "libtcc",
    ]
)
"""Plugins whose work nobody can do here; the others are built in or have options of their own."""


def _strict(builder: Builder, value: bool, _origin: Origin) -> None:  # noqa: FBT001
    builder.strict = value


def _fallback(builder: Builder, value: str, _origin: Origin) -> None:
    builder.fallback_config = value


def _spawn(builder: Builder, value: str, _origin: Origin) -> None:
    builder.spawn = value


def _plugins(builder: Builder, names: list[str], origin: Origin) -> None:
    """Accept what is built in. A plugin that is missing is a warning, as in the original."""
    for name in names:
        if _plugin(name) in _FOREIGN:
            builder.warn(f"plugin {name} is not there", origin)


def _accept(_builder: Builder, _value: object, _origin: Origin) -> None:
    """Do nothing: what the option is for is always so."""


def _need_plugins(builder: Builder, names: list[str], origin: Origin) -> None:
    for name in names:
        if _plugin(name) in _FOREIGN:
            builder.refuse(f"plugin {name} is not there", origin)


def _plugin(name: str) -> str:
    """Return the bare name: ``0:/usr/lib/uwsgi/php_plugin.so`` is ``php``."""
    base = name.rpartition(":")[2].rpartition("/")[2]
    return base.removesuffix(".so").removesuffix("_plugin").rstrip("0123456789.")


OPTIONS = (
    Option(
        name="strict",
        help="Refuse keys that are not options.",
        area=AREA,
        takes=Takes.NOTHING,
        parse=values.boolean,
        apply=_strict,
    ),
    Option(
        name="fallback-config",
        help="Start again with this configuration when the start fails with code 1.",
        area=AREA,
        parse=values.word,
        apply=_fallback,
        metavar="FILE",
        example="safe.ini",
    ),
    Option(
        name="spawn",
        help="Fork this vassal off the spawner, or start it in a fresh interpreter.",
        area=AREA,
        parse=values.choice("fork", "exec"),
        apply=_spawn,
        metavar="fork|exec",
        operator=True,
        ours=True,
        example="exec",
    ),
    Option(
        name="plugins",
        help="Accepted for plugins whose work is built in.",
        area=AREA,
        aliases=("plugin",),
        parse=values.listed,
        apply=_plugins,
        metavar="NAMES",
        repeats=True,
        example="python3,http",
    ),
    Option(
        name="need-plugins",
        help="As plugins, but one that is missing is an error.",
        area=AREA,
        aliases=("need-plugin",),
        parse=values.listed,
        apply=_need_plugins,
        metavar="NAMES",
        repeats=True,
        example="python3",
    ),
    Option(
        name="plugins-dir",
        help="Accepted; there is nothing to look for.",
        area=AREA,
        aliases=("plugin-dir",),
        apply=_accept,
        metavar="DIR",
        repeats=True,
        example="/usr/lib/uwsgi/plugins",
    ),
    Option(
        name="autoload",
        help="Accepted; what is built in needs no loading.",
        area=AREA,
        takes=Takes.NOTHING,
        parse=values.boolean,
        apply=_accept,
    ),
    *unbuilt(AREA, nothing="plugins-list|plugin-list", harmless=True),
)
