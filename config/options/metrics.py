"""Numbers collected, watched and sent elsewhere."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "metrics"

OPTIONS = (
    *unbuilt(
        AREA,
        nothing="nagios",
    ),
    *unbuilt(
        AREA,
        required="""
        metric metric-threshold|metric-alarm|alarm-metric metrics-dir metric-dir stats-push
        stats-pusher-default-freq|stats-pushers-default-freq snmp-community rrdtool
        rrdtool-freq rrdtool-lib carbon carbon-timeout carbon-freq carbon-id
        carbon-max-retry carbon-retry-delay carbon-root carbon-hostname-dots
        carbon-idle-avg
        """,
        nothing="""
        enable-metrics metrics-dir-restore metric-dir-restore metrics-no-cores
        stats-no-cores stats-no-metrics carbon-no-workers
        carbon-name-resolve|carbon-resolve-names carbon-use-metrics
        """,
        optional="snmp zabbix-template",
        harmless=True,
    ),
)
