"""The command: verbs for people, and the original's flags for everything else.

``donjon VERB ...`` looks the verb up in one table and imports its module alone; any other first
word, or none, is a configuration or one of the original's flags. Only this module prints errors:
one line each, and a traceback after it with ``--debug``.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence

from donjon import log, verbs
from donjon.errors import DonjonError, reason_of

INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name); return the exit status."""
    if argv is None:
        sys.argv[0] = program()
        if isinstance(sys.stdout, io.TextIOWrapper):  # bytes of arguments and names come out again
            sys.stdout.reconfigure(errors="surrogateescape")
    words = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in words:
        words.remove("--debug")
        log.set_debug(True)
    try:
        status = dispatch(words)
        sys.stdout.flush()
    except DonjonError as error:
        return _fail(str(error), error.exit_status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # the flush at exit
        return BROKEN_PIPE
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        return _fail(path + reason_of(error), 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def program() -> str:
    """Return the path by which this program is executed again, whatever the directory is then."""
    name = os.path.abspath(sys.argv[0])
    if os.path.basename(name) != "__main__.py":
        return name
    beside = os.path.join(os.path.dirname(sys.executable), "donjon")  # python -m donjon
    return beside if os.access(beside, os.X_OK) else name


def dispatch(words: Sequence[str]) -> int:
    """Do what a command line asks for. Raises DonjonError, OSError, SystemExit."""
    if words and words[0] in verbs.VERBS:
        return verbs.load(words[0])(words[0], words[1:])
    if words and words[0].isalpha() and not os.path.exists(words[0]):
        raise _no_verb(words[0])
    return verbs.load("run")("", words)


def _no_verb(word: str) -> DonjonError:
    """Return the error for a bare word that is neither verb nor file."""
    import difflib  # noqa: PLC0415  (for a mistake alone)

    near = difflib.get_close_matches(word, verbs.VERBS, n=1)
    hint = f"did you mean donjon {near[0]}?" if near else "donjon help lists the verbs"
    return DonjonError(f"{word} is no verb and no file", hint=hint)


def _fail(text: str, status: int) -> int:
    log.write(f"donjon: {text}")
    if log.debugging():
        import traceback  # noqa: PLC0415  (for a mistake alone)

        log.write(traceback.format_exc().rstrip("\n"))
    return status
