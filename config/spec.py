"""The result of configuration: one frozen Launch with a part for each package."""

from __future__ import annotations

from collections.abc import Mapping

from donjon.config.entry import Entry
from donjon.fork_pty.spec import RouterSpec
from donjon.hooks.spec import Hook
from donjon.jail.spec import JailSpec
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field
from donjon.server.spec import ServerSpec
from donjon.tuntap.federation.peer import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class EmperorSpec:
    """What was asked of an Emperor. Names follow the options; times in seconds unless said."""

    sources: tuple[str, ...] = ()  # emperor = dir://X | glob://X | X
    extra_extensions: tuple[str, ...] = ()
    nofollow: bool = False
    freq: int = 3
    required_heartbeat: int = 30
    curse_tolerance: int = 30
    pidfile: str | None = None
    procname: str | None = None
    tyrant: bool = False
    tyrant_nofollow: bool = False
    stats: str | None = None
    stats_http: bool = False
    early: bool = False
    broodlord: int = 0
    throttle: int = 1000  # milliseconds
    max_throttle: int = 180_000  # milliseconds
    no_blacklist: bool = False
    magic_exec: bool = False
    on_demand_extension: str | None = None
    on_demand_directory: str | None = None
    on_demand_exec: str | None = None
    graceful_shutdown: bool = False
    use_clone: frozenset[str] = frozenset()
    cap: frozenset[int] | None = None
    wrapper: str | None = None
    wrapper_override: tuple[str, ...] = ()
    wrapper_fallback: tuple[str, ...] = ()
    vassals_inherit: tuple[str, ...] = ()
    vassals_include: tuple[str, ...] = ()
    vassals_inherit_before: tuple[str, ...] = ()
    vassals_include_before: tuple[str, ...] = ()
    vassals_set: tuple[str, ...] = ()
    vassals_start_hook: str | None = None
    vassals_stop_hook: str | None = None
    reload_mercy: int = 30  # Ragnarok's patience
    beside_master: bool = False  # a master of the same instance reads the socket of the one above
    spawn: str = "fork"  # emperor-spawn = fork | exec (ours)
    spawner_preload: tuple[str, ...] = ()  # modules the zygote imports (ours)
    log_directory: str | None = None  # vassals' logs, one file each (ours)
    id_range_ledger: str | None = None  # of vassals; default idledger.PATH (ours)
    network_pool: tuple[str, ...] = ()  # networks of vassals' addresses (ours)
    network_ledger: str | None = None  # default netgrant.PATH (ours)
    network_device: str = "donjon0"  # the router's on the host (ours)
    network_nat: bool = False
    network_rules: str | None = None  # of the firewall (ours)
    network_dns: tuple[str, ...] = ()  # host, none, ADDRESS[:PORT]: who is asked else (ours)
    network_peers: tuple[Peer, ...] = ()  # other Emperors (ours)
    network_peer_listen: str | None = None
    network_peer_cert: str | None = None
    network_peer_key: str | None = None
    network_peer_ca: str | None = None
    control: str | None = None  # control socket (ours); default /run/donjon/control.sock
    plan_file: str | None = None  # hosting plans (ours)
    plan_assign: tuple[tuple[str, str], ...] = ()  # pattern of names, plan
    ksm_trust: tuple[str, ...] = ()  # patterns of names whose pages may be merged
    plan_cgroup: str = "donjon"  # below the root of each hierarchy
    terminals: str | None = None  # directory of doors to vassals' terminals (ours)
    terminals_record: str | None = None
    terminals_record_keys: bool = False
    terminal_router: RouterSpec = RouterSpec()  # how they are served: forkpty options
    origins: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything needed to start one instance. Picklable; holds no descriptor."""

    entries: tuple[Entry, ...] = ()  # effective options in order
    jail: JailSpec = field(default_factory=JailSpec)
    hooks: tuple[Hook, ...] = ()
    server: ServerSpec = field(default_factory=ServerSpec)
    emperor: EmperorSpec | None = None
    fallback_config: str | None = None
    spawn: str | None = None  # per vassal: fork | exec
    plan: str | None = None  # per vassal, for the Emperor
    plan_origin: Origin = DEFAULT
    strict: bool = False
    argv0: str = "donjon"  # what this program was called
