"""The application: where it is, what it needs, its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Apply, Option, Takes
from donjon.config.options.rows import Rows, unbuilt
from donjon.origin import Origin
from donjon.server.spec import Application

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "application"

_server = Rows(AREA, "server")


def _load(kind: str) -> Apply:
    def apply(builder: Builder, value: str, origin: Origin) -> None:
        builder.server.append("applications", Application(kind, value, "", origin), origin)

    return apply


def _application(
    name: str, kind: str, about: str, *aliases: str, metavar: str, example: str, short: str = ""
) -> Option:
    return Option(
        name=name,
        help=about,
        area=AREA,
        aliases=aliases,
        short=short,
        parse=values.word,
        apply=_load(kind),
        metavar=metavar,
        repeats=True,
        example=example,
    )


def _mount(text: str) -> tuple[str, str]:
    """Read ``MOUNTPOINT=APP``."""
    mountpoint, sign, target = values.word(text).partition("=")
    if not sign or not target:
        raise ValueError("not MOUNTPOINT=APP")
    return mountpoint, target


APPLICATIONS = (
    _application(
        "wsgi-file",
        "wsgi-file",
        "Load the application from a Python file.",
        "file",
        metavar="FILE",
        example="app.py",
    ),
    _application(
        "module",
        "module",
        "Load the application from a module.",
        "wsgi",
        short="w",
        metavar="MODULE[:CALLABLE]",
        example="site.wsgi:application",
    ),
    _server.several(
        "mount",
        "Load an application below a path.",
        field="applications",
        factory=lambda value, origin: Application("mount", value[1], value[0], origin),
        parse=_mount,
        metavar="PATH=APP",
        example="/blog=blog.py",
    ),
    _application(
        "eval",
        "eval",
        "Run Python text that makes the application.",
        metavar="CODE",
        example="application = None",
    ),
    _application(
        "pyrun",
        "pyrun",
        "Run a Python program.",
        "python",
        "py",
        metavar="FILE",
        example="task.py",
    ),
    _server.text(
        "callable", "The name of the application in its module.", metavar="NAME", example="app"
    ),
)

PLACES = (
    _server.text(
        "chdir", "Go to DIR before the application is loaded.", metavar="DIR", example="/srv/app"
    ),
    _server.text(
        "chdir2", "Go to DIR after the application was loaded.", metavar="DIR", example="/srv/app"
    ),
    _server.several(
        "pythonpath",
        "Look for modules in DIR too.",
        "python-path",
        "pp",
        field="pythonpath",
        metavar="DIR",
        example="/srv/lib",
    ),
    _server.text(
        "virtualenv",
        "Use the modules of a virtual environment.",
        "home",
        "venv",
        "pyhome",
        short="H",
        metavar="DIR",
        example="/srv/venv",
    ),
    _server.several(
        "python-import",
        "Import a module before the application.",
        "import",
        "pyimport",
        "py-import",
        field="python_import",
        metavar="MODULE",
        example="json",
    ),
    _server.text("pyargv", "The words of sys.argv.", metavar="WORDS", example="app -v"),
)


def _env(builder: Builder, value: tuple[str, str], origin: Origin) -> None:
    builder.server.append("environment", value, origin)


def _unenv(builder: Builder, value: str, origin: Origin) -> None:
    builder.server.append("environment", (value, "\0"), origin)


ENVIRONMENT = (
    Option(
        name="env",
        help="Set an environment variable.",
        area=AREA,
        parse=values.assignment,
        apply=_env,
        metavar="NAME=VALUE",
        repeats=True,
        example="LANG=C.UTF-8",
    ),
    Option(
        name="unenv",
        help="Remove an environment variable.",
        area=AREA,
        parse=values.word,
        apply=_unenv,
        metavar="NAME",
        repeats=True,
        example="LANG",
    ),
    _server.several(
        "envdir",
        "Set a variable for each file of a directory, its text being the value.",
        field="envdirs",
        metavar="DIR",
        example="/etc/app.env",
    ),
    _server.several(
        "file-write",
        "Write a text to a file at the start.",
        field="file_write",
        factory=lambda value, origin: (value, origin),
        parse=lambda text: "=".join(values.assignment(text)),
        metavar="FILE=TEXT",
        example="/run/flag=1",
    ),
)

BEHAVIOUR = (
    _server.flag("manage-script-name", "Split the path at the mount point for the application."),
    _server.flag("single-interpreter", "Load all applications in one interpreter.", short="i"),
    _server.flag("catch-exceptions", "Show exceptions to the client.", "catch-exception"),
)


def _shell_text(text: str) -> str | None:
    """Return the code of a shell, "" for the usual one, None for no shell."""
    if not text or values.is_plain_true(text):
        return ""
    return text if values.boolean(text) else None


def _shell(name: str, about: str, *, oneshot: bool) -> Option:
    def apply(builder: Builder, value: str | None, origin: Origin) -> None:
        builder.server.put("pyshell", value, origin)
        builder.server.put("pyshell_oneshot", oneshot, origin)

    return Option(
        name=name,
        help=about,
        area=AREA,
        takes=Takes.OPTIONAL,
        parse=_shell_text,
        apply=apply,
        metavar="[CODE]",
        example="from IPython import embed; embed()",
    )


SHELLS = (
    _shell(
        "pyshell",
        "Make worker 1 an interpreter to type into, or run this code there; it serves nothing.",
        oneshot=False,
    ),
    _shell(
        "pyshell-oneshot",
        "The same until its end: then worker 1 serves as the others do.",
        oneshot=True,
    ),
)

OPTIONS = (
    *APPLICATIONS,
    *PLACES,
    *ENVIRONMENT,
    *BEHAVIOUR,
    *SHELLS,
    *unbuilt(
        AREA,
        required="""
        test/J pymodule-alias post-pymodule-alias
        shared-import|shared-pyimport|shared-py-import|shared-python-import
        pecan paste web3 pump wsgi-lite ini-paste ini-paste-logged python-raw
        python-worker-override worker-mount symcall symcall-register-rpc symcall-post-fork
        """,
        nothing="""
        paste-logger python-version no-default-app ignore-script-name vhost vhost-host
        symcall-use-next
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        py-programname|py-program-name optimize/O py-tracebacker
        py-auto-reload|py-autoreload|python-auto-reload|python-autoreload py-auto-reload-ignore
        wsgi-env-behaviour|wsgi-env-behavior py-executable|py-sys-executable max-apps
        reload-on-exception-type reload-on-exception-value reload-on-exception-repr
        exception-handler write-errors-tolerance
        """,
        nothing="""
        reload-os-env no-site start_response-nodelay wsgi-strict
        wsgi-accept-buffer|wsgi-accept-buffers wsgi-disable-file-wrapper
        py-call-osafterfork py-call-uwsgi-fork-hooks reload-on-exception
        ignore-sigpipe ignore-write-errors write-errors-exception-only disable-write-exception
        """,
        harmless=True,
    ),
)
