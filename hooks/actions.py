"""THE table of actions: what may stand before the colon of a ``hook-…`` line."""

from __future__ import annotations

from donjon.hooks import calls, files, mounts, processes, waits
from donjon.hooks.action import Action, anything, first_and_rest, whole, words

_ROWS = (
    # this process
    Action(name="cd", aliases=("chdir",), usage="DIR", parse=words(1), run=files.change_directory,
           example="/srv/app", help="Change the working directory."),
    Action(name="putenv", usage="NAME=VALUE", parse=processes.parse_variable,
           run=processes.put_variable, example="LANG=C.UTF-8",
           help="Set an environment variable for this process and all that come from it."),
    Action(name="hostname", usage="NAME", parse=words(1), run=processes.set_hostname,
           example="jailhouse", help="Set the host name of this UTS namespace."),
    Action(name="print", aliases=("log",), usage="TEXT", parse=anything, run=processes.say,
           example="ready", help="Write a line to the log."),
    Action(name="alarm", usage="NAME MESSAGE", parse=first_and_rest, run=processes.ring,
           example="bell dinner is ready", help="Raise an alarm that an alarm option defined."),
    Action(name="exit", usage="[CODE]", parse=processes.parse_exit, run=processes.leave,
           example="17", help="End this process with an exit code, 0 where none is given."),
    # files
    Action(name="mkdir", usage="DIR", parse=words(1), run=files.make_directory,
           example="/run/app", help="Make a directory with mode 0777 less the umask."),
    Action(name="chmod", usage="FILE MODE", parse=files.parse_mode, run=files.change_mode,
           example="/run/app 750", help="Set a mode of three or four octal digits."),
    Action(name="sticky", usage="PATH", parse=words(1), run=files.set_sticky,
           example="/run/app", help="Add the sticky bit to a mode."),
    Action(name="chown", usage="FILE USER GROUP", parse=files.parse_owner_names,
           run=files.change_owner_by_name, example="/run/app root root",
           help="Set owner and group by name; names are those of the host."),
    Action(name="chown2", usage="FILE UID GID", parse=files.parse_owner_numbers,
           run=files.change_owner, example="/run/app 33 33",
           help="Set owner and group by number."),
    Action(name="create", aliases=("creat",), usage="FILE", parse=words(1), run=files.create,
           example="/run/app/flag", help="Make a file, or empty the one that is there."),
    Action(name="write", usage="FILE TEXT", parse=first_and_rest, run=files.write,
           example="/run/app/state up", help="Replace the content of a file by a text."),
    Action(name="writen", usage="FILE TEXT", parse=first_and_rest, run=files.write_line,
           example="/run/app/state up", help="As write, with a newline at the end."),
    Action(name="append", usage="FILE TEXT", parse=first_and_rest, run=files.append,
           example="/var/log/app started", help="Add a text to the end of a file."),
    Action(name="appendn", usage="FILE [TEXT]", parse=first_and_rest, run=files.append_line,
           example="/var/log/app", help="As append, with a newline; the text may be left out."),
    Action(name="writefifo", usage="FIFO TEXT", parse=first_and_rest, run=files.write_fifo,
           example="/run/app/fifo q", help="Write to a named pipe; no reader is no failure."),
    Action(name="spinningfifo", usage="FIFO TEXT", parse=first_and_rest,
           run=files.write_fifo_when_read, example="/run/app/fifo q",
           help="Write to a named pipe as soon as somebody reads it."),
    Action(name="unlink", usage="FILE", parse=words(1), run=files.remove,
           example="/run/app/flag", help="Remove a file."),
    # mounts
    Action(name="mount", usage="FSTYPE SOURCE TARGET [FLAGS [DATA]]", parse=mounts.parse_mount,
           run=mounts.mount, example="tmpfs none /tmp nosuid,nodev size=16m",
           help="Mount a file system; flags are words between commas."),
    Action(name="umount", usage="TARGET [FLAGS]", parse=mounts.parse_umount, run=mounts.umount,
           example="/mnt rec,detach", help="Unmount; with rec all that is mounted below as well."),
    # programs
    Action(name="exec", usage="COMMAND", parse=whole, run=processes.execute, expands=False,
           example="ip link set lo up",
           help="Run a line with /bin/sh; a status other than 0 fails."),
    Action(name="safeexec", usage="COMMAND", parse=whole, run=processes.execute_safely,
           expands=False, example="fusermount -u /app",
           help="Run a line with /bin/sh, whatever its status."),
    # functions
    Action(name="call", usage="FUNCTION [TEXT]", parse=first_and_rest, run=calls.call,
           example="sync", help="Call a C function of this process, whatever it returns."),
    Action(name="callret", usage="FUNCTION [TEXT]", parse=first_and_rest, run=calls.call_checked,
           example="chdir /", help="Call a C function; a result other than 0 fails."),
    Action(name="callint", usage="FUNCTION NUMBER", parse=calls.parse_number,
           run=calls.call_number, example="umask 18",
           help="Call a C function with a number, whatever it returns."),
    Action(name="callintret", usage="FUNCTION NUMBER", parse=calls.parse_number,
           run=calls.call_number_checked, example="close 9",
           help="Call a C function with a number; a result other than 0 fails."),
    Action(name="unix_signal", usage="NUMBER FUNCTION", parse=calls.parse_signal,
           run=calls.set_signal, example="10 abort",
           help="Make a C function of this process the handler of a signal."),
    Action(name="py", usage="MODULE:FUNCTION [TEXT]", parse=calls.parse_python,
           run=calls.call_python, example="os:getpid",
           help="Call a Python function; an exception or a result like 1 fails."),
    Action(name="rpc", aliases=("retryrpc", "rpcretry"), usage="FUNCTION[@NODE] [ARGUMENTS]",
           parse=calls.parse_rpc, run=calls.refuse, example="",
           help="Call a remote procedure. Not built yet: such a line is refused."),
    # waiting
    Action(name="wait_for_fs", usage="PATH", parse=words(1), run=waits.wait_for_fs,
           example="/srv/app", help="Wait until a path exists."),
    Action(name="wait_for_file", usage="PATH", parse=words(1), run=waits.wait_for_file,
           example="/srv/app/ready", help="Wait until a regular file exists."),
    Action(name="wait_for_dir", usage="PATH", parse=words(1), run=waits.wait_for_directory,
           example="/srv/app", help="Wait until a directory exists."),
    Action(name="wait_for_socket", usage="ADDRESS", parse=words(1), run=waits.wait_for_socket,
           example="127.0.0.1:5432", help="Wait until a socket accepts connections."),
)  # fmt: skip

ACTIONS: dict[str, Action] = {name: row for row in _ROWS for name in (row.name, *row.aliases)}
"""Every action by each of its names."""


def suggest(name: str) -> str | None:
    """Return the action whose name is nearest to an unknown one."""
    import difflib  # noqa: PLC0415  (for a mistake alone)

    near = difflib.get_close_matches(name, ACTIONS, n=1)
    return near[0] if near else None
