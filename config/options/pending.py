"""Options whose rows are being written."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

OPTIONS = (
    *unbuilt(
        "server",
        required="""
        socket/s uwsgi-socket/s http-socket http11-socket shared-socket
        undeferred-shared-socket processes|workers/p harakiri/t harakiri-graceful-timeout
        harakiri-graceful-signal harakiri-queue-threshold backtrace-depth mule-harakiri
        fallback-config write-errors-tolerance daemonize/d daemonize2 stop reload pause
        suspend resume listen/l max-vars/v max-apps buffer-size/b profiler chown-socket
        umask map-socket procname-prefix procname-prefix-spaced procname-append procname
        procname-master emperor emperor-proxy-socket emperor-wrapper
        emperor-wrapper-override emperor-wrapper-fallback emperor-procname emperor-freq
        emperor-required-heartbeat emperor-curse-tolerance emperor-pidfile
        emperor-stats|emperor-stats-server emperor-broodlord emperor-throttle
        emperor-max-throttle emperor-on-demand-extension|emperor-on-demand-ext
        emperor-on-demand-directory|emperor-on-demand-dir emperor-on-demand-exec
        emperor-extra-extension|emperor-extra-ext emperor-use-clone
        emperor-cap|vassals-cap|vassal-cap vassals-inherit vassals-include
        vassals-inherit-before vassals-include-before vassals-start-hook vassals-stop-hook
        vassal-sos vassal-sos-backlog vassals-set|vassal-set heartbeat reload-mercy
        worker-reload-mercy mule-reload-mercy max-requests/R max-requests-delta
        min-worker-lifetime max-worker-lifetime max-worker-lifetime-delta socket-timeout/z
        safe-fd|fd-safe mules farm flock flock-wait flock2 flock-wait2 pidfile pidfile2
        safe-pidfile safe-pidfile2 chroot pivot-root|pivot_root uid gid add-gid
        immediate-uid immediate-gid cap unshare unshare2 setns-socket
        setns-socket-skip|setns-skip setns hook-asap hook-pre-jail hook-post-jail
        hook-in-jail hook-as-root hook-as-user hook-as-user-atexit hook-pre-app
        hook-post-app hook-post-fork hook-accepting hook-accepting1 hook-accepting-once
        hook-accepting1-once hook-master-start hook-touch hook-emperor-start
        hook-emperor-stop hook-emperor-reload hook-emperor-lost hook-as-vassal
        hook-as-emperor hook-as-mule hook-as-gateway after-request-hook|after-request-call
        exec-asap exec-pre-jail exec-post-jail exec-in-jail exec-as-root exec-as-user
        exec-as-user-atexit exec-pre-app exec-post-app exec-as-vassal exec-as-emperor
        mount-asap mount-pre-jail mount-post-jail mount-in-jail mount-as-root
        mount-as-vassal mount-as-emperor umount-asap umount-pre-jail umount-post-jail
        umount-in-jail umount-as-root umount-as-vassal umount-as-emperor wait-for-interface
        wait-for-interface-timeout wait-interface wait-interface-timeout wait-for-iface
        wait-for-iface-timeout wait-iface wait-iface-timeout wait-for-fs wait-for-file
        wait-for-dir wait-for-mountpoint wait-for-fs-timeout wait-for-socket
        wait-for-socket-timeout call-asap call-pre-jail call-post-jail call-in-jail
        call-as-root call-as-user call-as-user-atexit call-pre-app call-post-app
        call-as-vassal call-as-vassal1 call-as-vassal3 call-as-emperor call-as-emperor1
        call-as-emperor2 call-as-emperor4 socket-sndbuf socket-rcvbuf limit-as limit-nproc
        reload-on-as reload-on-rss evil-reload-on-as evil-reload-on-rss mem-collector-freq
        reload-on-fd brutal-reload-on-fd touch-reload touch-workers-reload
        touch-mules-reload touch-chain-reload touch-logrotate touch-logreopen touch-exec
        check-mountpoint|mountpoint-check|check-mount|mount-check limit-post prio
        cpu-affinity post-buffering post-buffering-bufsize body-read-warning
        upload-progress reload-on-exception-type reload-on-exception-value
        reload-on-exception-repr exception-handler stats|stats-server master-fifo
        check-interval forkbomb-delay binary-path privileged-binary-patch
        unprivileged-binary-patch privileged-binary-patch-arg unprivileged-binary-patch-arg
        max-fd logto logto2 log-format|logformat logfile-chmod log-socket
        req-logger|logger-req logger log-encoder log-req-encoder alarm alarm-cheap
        alarm-freq alarm-fd alarm-segfault|segfault-alarm
        alarm-backlog|backlog-alarm|lq-alarm|alarm-lq|alarm-listen-queue|listen-queue-alarm
        alarm-msg-size log-master-bufsize log-maxsize log-backupname log-slow log-big
        log-sendfile log-ioerror force-cwd binsh chdir chdir2 idle mount worker-mount
        threads thread-stacksize|threads-stacksize|thread-stack-size|threads-stack-size env
        envdir early-envdir unenv file-write cgroup cgroup-opt cgroup-dir-mode namespace
        namespace-keep-mount ns namespace-net|ns-net tcp-fast-open|tcp-fastopen worker-exec
        worker-exec2 attach-daemon attach-control-daemon smart-attach-daemon
        smart-attach-daemon2 attach-daemon2 plugins|plugin need-plugins|need-plugin
        plugins-dir|plugin-dir wsgi-file|file eval module|wsgi/w callable test/J
        home|virtualenv|venv|pyhome/H py-programname|py-program-name
        pythonpath|python-path|pp pymodule-alias post-pymodule-alias
        import|pyimport|py-import|python-import
        shared-import|shared-pyimport|shared-py-import|shared-python-import pyargv
        optimize/O pecan paste web3 pump wsgi-lite ini-paste ini-paste-logged
        python|py|pyrun py-tracebacker
        py-auto-reload|py-autoreload|python-auto-reload|python-autoreload
        py-auto-reload-ignore wsgi-env-behaviour|wsgi-env-behavior python-raw
        python-worker-override py-executable|py-sys-executable symcall symcall-register-rpc
        symcall-post-fork ping ping-timeout http rsyslog-packet-size log-drain log-filter
        log-route log-req-route log-alarm|alarm-log not-log-alarm|not-alarm-log
        """,
        nothing="""
        thunder-lock harakiri-verbose
        harakiri-no-arh|no-harakiri-arh|no-harakiri-after-req-hook strict skip-zero
        skip-atexit skip-atexit-teardown ignore-sigpipe ignore-write-errors
        write-errors-exception-only disable-write-exception memory-report/m
        abstract-socket/a freebind enable-threads/T no-threads-wait auto-procname
        single-interpreter/i master/M honour-stdin emperor-nofollow emperor-tyrant
        emperor-tyrant-nofollow early-emperor emperor-magic-exec emperor-no-blacklist
        emperor-graceful-shutdown imperial-monitor-list|imperial-monitors-list
        exit-on-reload die-on-term reaper/r no-fd-passing disable-logging/L no-initgroups
        setns-preopen jailed refork|re-fork refork-as-root|re-fork-as-root
        refork-post-jail|re-fork-post-jail no-server command-mode no-defer-accept
        tcp-nodelay so-keepalive
        so-send-timeout|socket-send-timeout|so-write-timeout|socket-write-timeout
        shutdown-sockets never-swap propagate-touch no-orphans no-default-app
        manage-script-name ignore-script-name catch-exceptions reload-on-exception
        stats-http stats-minified|stats-min logformat-strftime|log-format-strftime
        logfile-chown logger-list|loggers-list threaded-logger use-abort
        alarm-list|alarms-list log-master log-master-stream log-master-req-stream
        log-reopen log-truncate log-zero log-4xx log-5xx log-micros log-x-forwarded-for
        master-as-root drop-after-init drop-after-apps lazy lazy-apps die-on-idle vhost
        vhost-host close-on-exec close-on-exec2 vacuum reuse-port
        tcp-fast-open-client|tcp-fastopen-client daemons-honour-stdin
        plugins-list|plugin-list paste-logger reload-os-env no-site start_response-nodelay
        wsgi-strict wsgi-accept-buffer|wsgi-accept-buffers wsgi-disable-file-wrapper
        python-version py-call-osafterfork py-call-uwsgi-fork-hooks symcall-use-next
        rsyslog-split-messages
        """,
        optional="""
        chmod-socket|chmod/C need-app mule mule-msg-size ksm log-syslog logdate|log-date
        log-prefix pyshell pyshell-oneshot
        """,
    ),
)
