"""The Emperor: where vassals come from, and how they are kept."""

from __future__ import annotations

from donjon.config.options import values
from donjon.config.options.rows import Rows, unbuilt

AREA = "Emperor"

_SCHEMES = ("dir", "glob")


def _source(text: str) -> str:
    """Read a source of vassals. Schemes that need a plugin of the original are refused."""
    scheme, sign, _ = values.word(text).partition("://")
    if sign and scheme not in _SCHEMES:
        raise ValueError(f"{scheme}:// is not built yet, only dir:// and glob:// are")
    return text


_emperor = Rows(AREA, "emperor")
_lends = Rows(AREA, "emperor", operator=True)
"""Keys that need, or lend to others, more than a customer has."""

_SECONDS = {"metavar": "SECONDS", "example": "30"}
_MILLISECONDS = {"metavar": "MS", "example": "1000"}

SOURCES = (
    _emperor.several(
        "emperor",
        "Start an instance for each configuration in a directory or behind a pattern.",
        field="sources",
        parse=_source,
        metavar="dir://DIR|glob://PATTERN|PATTERN",
        example="/etc/uwsgi/vassals",
    ),
    _emperor.several(
        "emperor-extra-extension",
        "Take files with this extension for vassals too.",
        "emperor-extra-ext",
        field="extra_extensions",
        metavar=".EXT",
        example=".conf",
    ),
    _emperor.flag(
        "emperor-nofollow", "Watch the time of a link, not of its target.", field="nofollow"
    ),
    _emperor.number(
        "emperor-freq",
        "Look at all sources at least so often.",
        field="freq",
        metavar="SECONDS",
        example="3",
    ),
    _emperor.flag(
        "emperor-magic-exec",
        "Run executable vassal files; their output is the text.",
        field="magic_exec",
    ),
    _lends.flag("emperor-tyrant", "Run each vassal as the owner of its file.", field="tyrant"),
    _lends.flag(
        "emperor-tyrant-nofollow",
        "Take the owner of a link, not of its target.",
        field="tyrant_nofollow",
    ),
)

LIFE = (
    _emperor.number(
        "emperor-required-heartbeat",
        "Kill a vassal whose heartbeat stopped for so long.",
        field="required_heartbeat",
        **_SECONDS,
    ),
    _emperor.number(
        "emperor-curse-tolerance",
        "Kill a vassal that did not stop for so long.",
        field="curse_tolerance",
        **_SECONDS,
    ),
    _emperor.number(
        "emperor-throttle",
        "Add so much to the pause of a vassal that fails.",
        field="throttle",
        **_MILLISECONDS,
    ),
    _emperor.number(
        "emperor-max-throttle",
        "The longest pause of a vassal that fails.",
        field="max_throttle",
        metavar="MS",
        example="180000",
    ),
    _emperor.flag(
        "emperor-no-blacklist", "Start a vassal that fails again at once.", field="no_blacklist"
    ),
    _emperor.flag(
        "emperor-graceful-shutdown", "Stop vassals gracefully.", field="graceful_shutdown"
    ),
    _emperor.number(
        "emperor-broodlord",
        "Start at most N more instances of a vassal in need.",
        field="broodlord",
    ),
    _emperor.text(
        "emperor-on-demand-extension",
        "Start a vassal at its first connection; the file beside its own names the socket.",
        "emperor-on-demand-ext",
        field="on_demand_extension",
        metavar=".EXT",
        example=".socket",
    ),
    _emperor.text(
        "emperor-on-demand-directory",
        "Start a vassal at its first connection to DIR/NAME.socket.",
        "emperor-on-demand-dir",
        field="on_demand_directory",
        metavar="DIR",
        example="/run/vassals",
    ),
    _emperor.text(
        "emperor-on-demand-exec",
        "Start a vassal at its first connection; COMMAND NAME prints the socket.",
        field="on_demand_exec",
        metavar="COMMAND",
        example="/usr/bin/socket-of",
    ),
    _emperor.text(
        "vassals-start-hook",
        "Run a program before each start of a vassal.",
        field="vassals_start_hook",
        metavar="PROGRAM",
        example="/usr/bin/starting",
    ),
    _emperor.text(
        "vassals-stop-hook",
        "Run a program after each end of a vassal.",
        field="vassals_stop_hook",
        metavar="PROGRAM",
        example="/usr/bin/stopped",
    ),
)

CONFIGURATION = (
    _emperor.several(
        "vassals-inherit",
        "Give each vassal a template, read after its file.",
        "vassal-inherit",
        field="vassals_inherit",
        metavar="FILE",
        example="base.ini",
    ),
    _emperor.several(
        "vassals-include",
        "Give each vassal a file, read with its own.",
        field="vassals_include",
        metavar="FILE",
        example="base.ini",
    ),
    _emperor.several(
        "vassals-inherit-before",
        "As vassals-inherit, named before the file.",
        field="vassals_inherit_before",
        metavar="FILE",
        example="base.ini",
    ),
    _emperor.several(
        "vassals-include-before",
        "As vassals-include, read before the file.",
        field="vassals_include_before",
        metavar="FILE",
        example="base.ini",
    ),
    _emperor.several(
        "vassals-set",
        "Set an option or placeholder of each vassal.",
        "vassal-set",
        field="vassals_set",
        metavar="KEY=VALUE",
        example="vacuum=true",
    ),
)

PRIVILEGES = (
    _lends.text(
        "emperor-use-clone",
        "Start each vassal in these namespaces of its own.",
        field="use_clone",
        metavar="WORDS",
        example="fs,ipc,pid,uts,net",
        parse=values.namespaces,
    ),
    _lends.text(
        "emperor-cap",
        "Take all other capabilities from vassals for good.",
        "vassals-cap",
        "vassal-cap",
        field="cap",
        metavar="NAMES",
        example="setuid,setgid",
        parse=values.capabilities,
    ),
    _lends.text(
        "emperor-wrapper",
        "Start vassals with this program instead of ours.",
        field="wrapper",
        metavar="PROGRAM",
        example="/usr/bin/wrapper",
    ),
    _lends.several(
        "emperor-wrapper-override",
        "Try this program before the usual one.",
        field="wrapper_override",
        metavar="PROGRAM",
        example="/usr/bin/wrapper",
    ),
    _lends.several(
        "emperor-wrapper-fallback",
        "Try this program if the usual one fails.",
        field="wrapper_fallback",
        metavar="PROGRAM",
        example="/usr/bin/wrapper",
    ),
    _lends.text(
        "emperor-spawn",
        "Fork vassals off the spawner, or start each in a fresh interpreter.",
        field="spawn",
        metavar="fork|exec",
        example="fork",
        parse=values.choice("fork", "exec"),
        ours=True,
    ),
    _lends.several(
        "spawner-preload",
        "Import a module in the spawner, once for all vassals.",
        field="spawner_preload",
        metavar="MODULE",
        example="json",
        ours=True,
    ),
)

FACE = (
    _emperor.text(
        "emperor-pidfile",
        "Write the Emperor's pid to a file.",
        field="pidfile",
        metavar="FILE",
        example="/run/emperor.pid",
    ),
    _emperor.text(
        "emperor-procname",
        "The name of the Emperor in process lists.",
        field="procname",
        metavar="NAME",
        example="emperor",
    ),
    _emperor.text(
        "emperor-stats",
        "Give the state of all vassals as JSON on a socket.",
        "emperor-stats-server",
        field="stats",
        metavar="ADDRESS",
        example="127.0.0.1:5000",
    ),
    _lends.text(
        "emperor-log-directory",
        "Write what each vassal says to DIR/NAME.log.",
        field="log_directory",
        metavar="DIR",
        example="/var/log/vassals",
        ours=True,
    ),
    _lends.text(
        "emperor-control",
        "The socket for ls, show, reload, stop and start.",
        field="control",
        metavar="PATH",
        example="/run/donjon/control.sock",
        ours=True,
    ),
)

TERMINALS = (
    _lends.text(
        "emperor-terminals",
        "Give terminals in the jail of each vassal at DIR/NAME.socket, from outside; forkpty- "
        "options beside this one say to whom.",
        field="terminals",
        metavar="DIR",
        example="/run/terminals",
        ours=True,
    ),
    _lends.text(
        "emperor-terminals-record",
        "Keep an asciicast of each of them in DIR/NAME.",
        field="terminals_record",
        metavar="DIR",
        example="/var/log/donjon/terminals",
        ours=True,
    ),
    _lends.flag(
        "emperor-terminals-record-keys",
        "Keep what is typed as well, passwords too.",
        field="terminals_record_keys",
        ours=True,
    ),
)

OPTIONS = (
    *SOURCES,
    *LIFE,
    *CONFIGURATION,
    *PRIVILEGES,
    *FACE,
    *TERMINALS,
    *unbuilt(
        AREA, required="vassal-sos vassal-sos-backlog", nothing="early-emperor", harmless=True
    ),
    *unbuilt(
        AREA,
        required="""
        emperor-command-socket emperor-collect-attribute|emperor-collect-attr
        emperor-fork-server-attr emperor-use-fork-server vassal-fork-base fork-server
        emperor-chroot emperor-wrapper-by-attr emperor-use-clone-attr hook-vassal-before-exec
        """,
        nothing="imperial-monitor-list|imperial-monitors-list emperor-subreaper",
    ),
)
