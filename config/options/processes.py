"""Master, workers, mules and daemons: how many, how long, and what makes them start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Option, Takes
from donjon.config.options.rows import Rows, unbuilt
from donjon.origin import Origin
from donjon.server.spec import Daemon

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "processes"

_server = Rows(AREA, "server")

_SECONDS = {"metavar": "SECONDS", "example": "60"}


def _threads(text: str) -> int:
    """Read a number of threads; none is one, as in the original."""
    return max(1, values.integer(0, 1024)(text))


NUMBERS = (
    _server.flag("master", "Run a master that keeps the workers.", short="M"),
    _server.number(
        "processes",
        "How many workers.",
        "workers",
        short="p",
        example="4",
        parse=values.integer(1, 4096),
    ),
    _server.number("threads", "How many threads each worker has.", example="2", parse=_threads),
    _server.flag(
        "enable-threads", "Let the application start threads; they always can.", short="T"
    ),
    _server.flag("lazy-apps", "Load the application in each worker instead of once."),
    _server.flag("lazy", "The old name of lazy-apps.", field="lazy_apps"),
    _server.flag("no-server", "Load the application and exit."),
    _server.flag("need-app", "Exit if no application can be loaded.", takes=Takes.OPTIONAL),
    _server.number("idle", "Call the instance idle after so long without a request.", **_SECONDS),
    _server.flag("die-on-idle", "Exit when idle."),
)

LIFE = (
    _server.number(
        "max-requests", "Replace a worker after so many requests.", short="R", example="5000"
    ),
    _server.number("max-requests-delta", "Add N times the worker's number to max-requests."),
    _server.number(
        "min-worker-lifetime", "Replace no worker for its requests before this age.", **_SECONDS
    ),
    _server.number("max-worker-lifetime", "Replace a worker of this age.", **_SECONDS),
    _server.number("harakiri", "Kill a worker whose request takes longer.", short="t", **_SECONDS),
    _server.flag("die-on-term", "Stop on SIGTERM instead of reloading."),
    _server.flag("exit-on-reload", "Exit where a reload is asked for."),
    _server.flag("no-orphans", "Kill the workers if the master dies."),
    _server.number(
        "worker-reload-mercy", "How long a worker may take to finish its request.", **_SECONDS
    ),
    _server.number("heartbeat", "Tell the Emperor so often that all is well.", **_SECONDS),
)


def _mercy(builder: Builder, value: int, origin: Origin) -> None:
    builder.server.put("reload_mercy", value, origin)
    builder.emperor.put("reload_mercy", value, origin)


def _mule(builder: Builder, value: str, origin: Origin) -> None:
    builder.server.append("mules", "" if values.is_plain_true(value) else value, origin)


def _mules(builder: Builder, value: int, origin: Origin) -> None:
    for _ in range(value):
        builder.server.append("mules", "", origin)


OTHERS = (
    Option(
        name="reload-mercy",
        help="How long processes may take to end; for the Emperor, its vassals.",
        area=AREA,
        parse=values.number,
        apply=_mercy,
        metavar="SECONDS",
        example="60",
    ),
    Option(
        name="mule",
        help="Run a process beside the workers, with a file if one is named.",
        area=AREA,
        takes=Takes.OPTIONAL,
        parse=values.plain,
        apply=_mule,
        metavar="FILE",
        repeats=True,
        example="mule.py",
    ),
    Option(
        name="mules",
        help="Run N processes beside the workers.",
        area=AREA,
        parse=values.integer(0, 1024),
        apply=_mules,
        metavar="N",
        example="2",
    ),
)

NAMES = (
    _server.flag("auto-procname", "Say in process lists what each process is."),
    _server.text("procname", "The name of all processes.", metavar="NAME", example="app"),
    _server.text("procname-master", "The name of the master.", metavar="NAME", example="app"),
    _server.text(
        "procname-prefix", "Put this before process names.", metavar="TEXT", example="app:"
    ),
    _server.text(
        "procname-prefix-spaced",
        "Put this and a blank before process names.",
        metavar="TEXT",
        example="app",
    ),
    _server.text(
        "procname-append", "Put this after process names.", metavar="TEXT", example=" (app)"
    ),
)

_PIDFILE = {"metavar": "FILE", "example": "/run/app.pid"}

CONTROL = (
    _server.text("pidfile", "Write the master's pid while still privileged.", **_PIDFILE),
    _server.text("pidfile2", "Write the master's pid after the drop.", **_PIDFILE),
    _server.text("safe-pidfile", "As pidfile, but a failure is an error.", **_PIDFILE),
    _server.text("safe-pidfile2", "As pidfile2, but only when all is ready.", **_PIDFILE),
    _server.several(
        "master-fifo",
        "Read commands for the master from a fifo; several give slots.",
        field="master_fifo",
        metavar="PATH",
        example="/run/app.fifo",
    ),
    _server.text(
        "stats",
        "Give the state of the instance as JSON on a socket.",
        "stats-server",
        metavar="ADDRESS",
        example="127.0.0.1:9191",
    ),
    _server.flag("stats-http", "Answer HTTP on the sockets of statistics."),
    _server.flag("stats-minified", "Leave blanks out of the statistics.", "stats-min"),
    _server.text(
        "emperor-proxy-socket",
        "Lend the connection to the Emperor on this socket.",
        metavar="PATH",
        example="/run/emperor.sock",
    ),
)

_TOUCHED = {"metavar": "FILE", "example": "/srv/app/reload"}

TOUCH = (
    _server.several(
        "touch-reload", "Reload when a file was touched.", field="touch_reload", **_TOUCHED
    ),
    _server.several(
        "touch-chain-reload",
        "Replace one worker after another when a file was touched.",
        field="touch_chain_reload",
        **_TOUCHED,
    ),
    _server.several(
        "touch-workers-reload",
        "Replace the workers when a file was touched.",
        field="touch_workers_reload",
        **_TOUCHED,
    ),
)


def _daemon(name: str, about: str, metavar: str, example: str) -> Option:
    return _server.several(
        name,
        about,
        field="daemons",
        factory=lambda value, origin: Daemon(value, name, origin),
        metavar=metavar,
        example=example,
    )


DAEMONS = (
    _daemon("attach-daemon", "Keep a program running.", "COMMAND", "memcached -p 11311"),
    _daemon(
        "attach-control-daemon",
        "Keep a program running, and end when it ends.",
        "COMMAND",
        "memcached -p 11311",
    ),
    _daemon(
        "smart-attach-daemon",
        "Keep a program running that detaches itself; its pid file tells.",
        '"PIDFILE[,FREQ] COMMAND"',
        "/run/d.pid daemon -d",
    ),
    _daemon(
        "smart-attach-daemon2",
        "Detach a program and keep it running; we write its pid file.",
        '"PIDFILE[,FREQ] COMMAND"',
        "/run/d.pid daemon",
    ),
    _daemon(
        "attach-daemon2",
        "Keep a program running, with everything said in KEY=VALUE.",
        "KEY=VALUE,…",
        "cmd=sleep 60,freq=5",
    ),
)

OPTIONS = (
    *NUMBERS,
    *LIFE,
    *OTHERS,
    *NAMES,
    *CONTROL,
    *TOUCH,
    *DAEMONS,
    *unbuilt(
        AREA,
        required="""
        farm flock flock-wait flock2 flock-wait2 force-cwd worker-exec worker-exec2
        ping ping-timeout
        """,
        nothing="command-mode",
    ),
    *unbuilt(
        AREA,
        required="""
        harakiri-graceful-timeout harakiri-graceful-signal harakiri-queue-threshold
        backtrace-depth mule-harakiri mule-reload-mercy max-worker-lifetime-delta profiler
        reload-on-as reload-on-rss evil-reload-on-as evil-reload-on-rss mem-collector-freq
        touch-mules-reload touch-logrotate touch-logreopen
        check-interval forkbomb-delay binary-path
        thread-stacksize|threads-stacksize|thread-stack-size|threads-stack-size
        """,
        nothing="""
        thunder-lock harakiri-verbose
        harakiri-no-arh|no-harakiri-arh|no-harakiri-after-req-hook
        skip-zero skip-atexit skip-atexit-teardown memory-report/m no-threads-wait honour-stdin
        reaper/r propagate-touch use-abort daemons-honour-stdin
        """,
        optional="mule-msg-size",
        harmless=True,
    ),
)
