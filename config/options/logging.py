"""What is written where, and alarms."""

from __future__ import annotations

from donjon.config.options.rows import Rows, unbuilt
from donjon.server.spec import Alarm

AREA = "logging"

_server = Rows(AREA, "server")

_LOG = {"metavar": "FILE", "example": "/var/log/app.log"}


def _alarm(text: str) -> tuple[str, str]:
    """Read ``NAME PLUGIN:ARGUMENTS``."""
    name, _, target = text.strip().partition(" ")
    if not target.strip():
        raise ValueError("not NAME PLUGIN:ARGUMENTS")
    return name, target.strip()


OPTIONS = (
    _server.text("logto", "Write the log to a file.", **_LOG),
    _server.text("logto2", "Write the log to a file opened after the drop.", **_LOG),
    _server.text(
        "daemonize", "Go to the background and write the log to a file.", short="d", **_LOG
    ),
    _server.text("daemonize2", "Go to the background when the application is loaded.", **_LOG),
    _server.flag("disable-logging", "Write no line for each request.", short="L"),
    _server.text(
        "log-format",
        "The line for each request, with %(name) for its values.",
        "logformat",
        metavar="TEXT",
        example="%(method) %(uri) %(status)",
    ),
    _server.flag("log-master", "Accepted; what workers say reaches the log whole in any case."),
    _server.flag("log-x-forwarded-for", "Log the address that X-Forwarded-For says."),
    _server.several(
        "alarm",
        "Name a way to raise an alarm.",
        field="alarms",
        factory=lambda value, origin: Alarm(value[0], value[1], origin),
        parse=_alarm,
        metavar='"NAME PLUGIN:ARGUMENTS"',
        example="bell cmd:cat",
    ),
    *unbuilt(
        AREA,
        required="""
        logfile-chmod log-socket req-logger|logger-req logger log-encoder log-req-encoder
        log-master-bufsize log-maxsize log-backupname log-slow log-big log-sendfile log-ioerror
        log-drain log-filter log-route log-req-route log-alarm|alarm-log
        not-log-alarm|not-alarm-log alarm-cheap alarm-freq
        alarm-segfault|segfault-alarm
        alarm-backlog|backlog-alarm|lq-alarm|alarm-lq|alarm-listen-queue|listen-queue-alarm
        alarm-msg-size rsyslog-packet-size
        """,
        nothing="""
        logformat-strftime|log-format-strftime logfile-chown logger-list|loggers-list
        threaded-logger alarm-list|alarms-list log-master-stream log-master-req-stream
        log-reopen log-truncate log-zero log-4xx log-5xx log-micros rsyslog-split-messages
        """,
        optional="log-syslog logdate|log-date log-prefix",
        harmless=True,
    ),
)
