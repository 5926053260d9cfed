"""Other languages and their stores, which the original reaches through plugins."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "other languages"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        psgi|psgi-file perl-exec perl-exec-post-fork perl-local-lib perl-version perl-args|perl-arg
        perl-auto-reload perl-auto-reload-ignore early-perl early-psgi early-perl-exec
        rack rails ruby rb rbrequire|ruby-require|rb-require shared-rbrequire|shared-ruby-require
        shared-rb-require|shared-require gemset|rvm rvm-path rbthreads|ruby-threads|rb-threads
        rb-gc-freq|ruby-gc-freq rb-lib|ruby-lib
        lua lua-load lua-gc-freq
        jvm-classpath jvm-class jvm-main-class jvm-opt jwsgi ring-load|clojure-load ring-app
        mono-app mono-index mono-assembly mono-key mono-gc-freq mono-version mono-config mono-exec
        php-ini php-config php-ini-append php-config-append php-set php-index php-docroot
        php-allowed-docroot php-allowed-ext php-allowed-script php-server-software php-app
        php-app-qs php-sapi-name php-fallback php-fallback2 php-fallback-qs php-var
        php-exec-after php-exec-before
        early-php-sapi-name
        go-load|gccgo-load go-args|gccgo-args goroutines
        erlang erlang-cookie
        v8-load v8-preemptive v8-gc-freq v8-module-path v8-jsgi
        pypy-lib pypy-setup pypy-home pypy-wsgi pypy-wsgi-file pypy-ini-paste pypy-paste
        pypy-eval pypy-eval-post-fork pypy-exec pypy-exec-post-fork
        pypy-pp|pypy-python-path|pypy-pythonpath
        gridfs|gridfs-mount glusterfs-mount glusterfs-timeout rados-mount rados-timeout
        xslt-docroot xslt-ext xslt-var xslt-stylesheet xslt-content-type
        ldap sqlite3|sqlite geoip-country geoip-city v4l-capture
        """,
        nothing="early-php php-app-bypass",
        optional="plshell plshell-oneshot rbshell rbshell-oneshot lua-shell|luashell",
    ),
    *unbuilt(
        AREA,
        nothing="""
        psgi-enable-psgix-io|psgi-enable-psgix.io perl-no-die-catch perl-no-plack
        php-dump-config gridfs-debug geoip-use-disk ldap-schema ldap-schema-ldif
        """,
        harmless=True,
    ),
)
