"""What was asked of the server: frozen, typed, with origins."""

from __future__ import annotations

from collections.abc import Mapping

from donjon.fork_pty.spec import RouterSpec, SharedSpec
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field
from donjon.tuntap.routes import Route
from donjon.tuntap.settings import DeviceSetting, RouterSetting


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket to serve. ``address`` as uWSGI writes it: ``/path``, ``@abstract``, ``host:port``,
    ``:port``, ``fd://N``.

    ``protocol`` is ``uwsgi``, ``http`` (one request a connection, as http-socket) or ``http11``.
    ``shared`` sockets are bound before privileges are dropped.
    """

    address: str
    protocol: str
    origin: Origin = DEFAULT
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Application:
    """Something to load.

    ``kind`` is ``wsgi-file``, ``module``, ``mount`` (of a file or a module), ``pyrun``, ``eval``.
    """

    kind: str
    target: str
    mountpoint: str = ""
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class Daemon:
    """``attach-daemon`` and kin: a program the master keeps running."""

    command: str
    kind: str  # attach-daemon[2], attach-control-daemon, smart-attach-daemon[2]
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class Alarm:
    """``alarm = NAME PLUGIN:ARGS``."""

    name: str
    target: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class FdWatch:
    """``alarm-fd = ALARM FD[:BYTES MESSAGE]``, ``reload-on-fd`` and ``brutal-reload-on-fd``.

    ``alarm`` is "" where it reloads. ``count`` bytes are read each time the descriptor is
    readable: 8 of an eventfd(2).
    """

    fd: int
    alarm: str = ""
    brutal: bool = False
    count: int = 1
    message: str = ""
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class TouchHook:
    """``hook-touch = FILE ACTION``."""

    path: str
    action: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """Everything about serving; named as the options, times in seconds, sizes in bytes."""

    # packets of jails
    tuntap_routers: tuple[RouterSetting, ...] = ()
    tuntap_rules_in: tuple[tuple[str, Origin], ...] = ()
    tuntap_rules_out: tuple[tuple[str, Origin], ...] = ()
    tuntap_stats: str = ""
    tuntap_routes: tuple[Route, ...] = ()
    tuntap_devices: tuple[DeviceSetting, ...] = ()
    tuntap_device_rules: tuple[bytes, ...] = ()
    tuntap_credentials: bool = False

    # sockets
    listeners: tuple[Listener, ...] = ()
    http_routers: tuple[
        Listener, ...
    ] = ()  # --http: a gateway; served as http listeners in the first cut
    terminals: RouterSpec | None = None  # --forkpty-router and its kin
    pty: SharedSpec | None = None  # --pty-socket and its kin
    pty_connect: str | None = None  # no server but a client of one, and so are the next two
    pty_uconnect: str | None = None
    pty_no_isig: bool = False
    listen: int = 100
    chmod_socket: int | None = None
    chown_socket: str | None = None
    umask: int | None = None
    socket_timeout: int = 4
    buffer_size: int = 4096
    post_buffering: int = 0
    limit_post: int = 0  # 0: no limit
    reuse_port: bool = False
    vacuum: bool = False

    # processes
    master: bool = False
    master_as_root: bool = (
        False  # each worker drops privileges for itself, before it loads the application
    )
    processes: int = 1
    threads: int = 1
    enable_threads: bool = False
    lazy_apps: bool = False
    need_app: bool = False
    no_server: bool = False
    max_requests: int = 0
    max_requests_delta: int = 0
    min_worker_lifetime: int = 60
    max_worker_lifetime: int = 0
    harakiri: int = 0
    reload_mercy: int = 60
    worker_reload_mercy: int = 60
    die_on_term: bool = False
    exit_on_reload: bool = False
    no_orphans: bool = False
    idle: int = 0
    die_on_idle: bool = False
    idle_freeze: int = 0  # under an Emperor: frozen after so many idle seconds
    ksm: int = 0  # merge equal pages, looking every so many requests
    heartbeat: int = 0
    cpu_affinity: int = 0  # processors of each worker; 0: any
    mules: tuple[str, ...] = ()  # "" for a plain mule, else the file to run
    procname_prefix: str = ""
    procname_prefix_spaced: str = ""
    procname_append: str = ""
    procname: str = ""
    procname_master: str = ""
    auto_procname: bool = False

    # application
    applications: tuple[Application, ...] = ()
    callable: str = "application"
    chdir: str | None = None
    chdir2: str | None = None
    pythonpath: tuple[str, ...] = ()
    virtualenv: str | None = None
    pyargv: str | None = None
    python_import: tuple[str, ...] = ()
    pyshell: str | None = None  # worker 1 is an interpreter that runs this; "": one to type into
    pyshell_oneshot: bool = False  # and a worker like the others afterwards
    manage_script_name: bool = False
    single_interpreter: bool = False
    catch_exceptions: bool = False
    envdirs: tuple[str, ...] = ()  # a variable for each file in them, read after asap
    environment: tuple[tuple[str, str], ...] = ()  # env = K=V, in order; unenv is (K, "\0")
    options: tuple[tuple[str, str], ...] = ()  # the effective options, for uwsgi.opt

    # files and logs
    pidfile: str | None = None
    pidfile2: str | None = None
    safe_pidfile: str | None = None
    safe_pidfile2: str | None = None
    daemonize: str | None = None
    daemonize2: str | None = None
    logto: str | None = None
    logto2: str | None = None
    disable_logging: bool = False
    log_format: str | None = None
    log_master: bool = False
    log_x_forwarded_for: bool = False
    touch_reload: tuple[str, ...] = ()
    touch_chain_reload: tuple[str, ...] = ()
    touch_workers_reload: tuple[str, ...] = ()
    touch_hooks: tuple[TouchHook, ...] = ()
    master_fifo: tuple[str, ...] = ()
    stats: str | None = None
    stats_http: bool = False
    stats_minified: bool = False
    file_write: tuple[tuple[str, Origin], ...] = ()
    alarms: tuple[Alarm, ...] = ()
    fd_watches: tuple[FdWatch, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    emperor_proxy_socket: str | None = None
    mountpoint_checks: tuple[str, ...] = ()
    setns_socket: str | None = None
    setns_skip: tuple[str, ...] = ()
    setns_uids: tuple[int, ...] = ()

    origins: Mapping[str, Origin] = field(default_factory=dict)
