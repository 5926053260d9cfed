"""Options that act while a configuration is read: loaders, placeholders, logic, questions.

``config.expand`` does them; the rows here only say that they exist and whether a value follows.
"""

from __future__ import annotations

from donjon.config.options.option import Option, Takes
from donjon.config.options.rows import unbuilt

AREA = "configuration"


def _row(
    name: str,
    text: str,
    *aliases: str,
    metavar: str = "",
    example: str = "",
    takes: Takes = Takes.REQUIRED,
    short: str = "",
    repeats: bool = True,
    ours: bool = False,
) -> Option:
    return Option(
        name=name,
        help=text,
        area=AREA,
        takes=takes,
        aliases=aliases,
        short=short,
        metavar=metavar,
        immediate=True,
        repeats=repeats,
        ours=ours,
        example=example,
    )


LOADERS = (
    _row("ini", "Read options from an ini file.", metavar="FILE[:SECTION]", example="app.ini"),
    _row(
        "xml",
        "Read options from an XML file.",
        "xmlconfig",
        short="x",
        metavar="FILE[:ID]",
        example="app.xml",
    ),
    _row(
        "yaml",
        "Read options from a YAML file.",
        "yml",
        short="y",
        metavar="FILE[:SECTION]",
        example="app.yaml",
    ),
    _row(
        "json",
        "Read options from a JSON file.",
        "js",
        short="j",
        metavar="FILE[:KEY]",
        example="app.json",
    ),
    _row(
        "toml",
        "Read options from a TOML file.",
        metavar="FILE[:TABLE]",
        example="app.toml",
        ours=True,
    ),
    _row(
        "config",
        "Read options from a file; its extension says the format.",
        metavar="FILE[:SECTION]",
        example="app.ini",
    ),
    _row(
        "inherit",
        "Read a template after the file that names it.",
        metavar="FILE",
        example="base.ini",
    ),
    _row("include", "Read another file at this place.", metavar="FILE", example="common.ini"),
    _row(
        "inject-before",
        "Put the text of FILE before each configuration read from now on.",
        metavar="FILE",
        example="head.ini",
    ),
    _row(
        "inject-after",
        "Put the text of FILE after each configuration read from now on.",
        metavar="FILE",
        example="tail.ini",
    ),
)

VALUES = (
    _row(
        "set",
        "Set an option or a placeholder.",
        short="S",
        metavar="KEY=VALUE",
        example="name=value",
    ),
    _row(
        "set-placeholder",
        "Set a placeholder; an error if KEY is an option.",
        "set-ph",
        metavar="KEY=VALUE",
        example="name=value",
    ),
    _row(
        "declare-option",
        "Make an option of your own out of others; $1, $2 are the words of its value.",
        metavar="NAME=KEY=VALUE[;KEY=VALUE]",
        example="site=chdir=/srv/$1",
    ),
    _row(
        "declare-option2",
        "As declare-option, for options that act when all is read.",
        metavar="NAME=KEY=VALUE[;KEY=VALUE]",
        example="site=chdir=/srv/$1",
    ),
    _row(
        "resolve",
        "Put the address of a host in a placeholder.",
        metavar="NAME=HOST",
        example="db=localhost",
    ),
    _row(
        "early-envdir",
        "Set a variable for each file of a directory, for the rest of the configuration too.",
        metavar="DIR",
        example="/etc/app.env",
    ),
    _row(
        "mode",
        "Read only the parts of XML that carry this mode.",
        metavar="NAME",
        example="staging",
        repeats=False,
    ),
)

_FOR = {
    "for": ("Repeat each option up to end-for for every word.", "WORDS", "a b"),
    "for-glob": ("Repeat for every path that matches.", "PATTERN", "/srv/*"),
    "for-times": ("Repeat N times, counting from 1.", "N", "3"),
    "for-readline": ("Repeat for every line of a file.", "FILE", "names.txt"),
}

_IF = {
    "if-env": ("NAME[=VALUE]", "HOME", "an environment variable is set", ("ifenv",)),
    "if-opt": ("NAME[=VALUE]", "master", "an option came before", ()),
    "if-exists": ("PATH", "/tmp", "a path exists", ("ifexists",)),
    "if-file": ("PATH", "/etc/hosts", "a path is a file", ()),
    "if-dir": ("PATH", "/tmp", "a path is a directory", ("ifdir", "if-directory")),
    "if-plugin": ("NAME", "python", "a plugin's work is built in", ("ifplugin",)),
    "if-hostname": ("NAME", "web1", "this host has that name", ()),
    "if-hostname-match": ("REGEX", "web.*", "this host's name matches", ()),
}


def _conditions() -> tuple[Option, ...]:
    rows = []
    for name, (metavar, example, when, aliases) in _IF.items():
        negated = name.replace("if-", "if-not-", 1)
        text = f"Use the options up to end-if when {when}."
        rows.append(_row(name, text, *aliases, metavar=metavar, example=example))
        text = f"Use the options up to end-if unless {when}."
        others = (alias.replace("if-", "if-not-", 1) for alias in aliases if "-" in alias)
        rows.append(_row(negated, text, *others, metavar=metavar, example=example))
    return tuple(rows)


LOGIC = (
    *(_row(name, text, metavar=word, example=e) for name, (text, word, e) in _FOR.items()),
    _row("end-for", "End a repetition.", "endfor", takes=Takes.OPTIONAL),
    *_conditions(),
    _row(
        "if-reload",
        "Use the options up to end-if when this is a reload.",
        takes=Takes.NOTHING,
    ),
    _row(
        "if-not-reload",
        "Use the options up to end-if unless this is a reload.",
        takes=Takes.NOTHING,
    ),
    _row("end-if", "End a condition.", "endif", takes=Takes.OPTIONAL),
    _row("end", "End the condition or the repetition.", takes=Takes.OPTIONAL, ours=True),
    _row(
        "blacklist",
        "Refuse these options up to end-blacklist.",
        metavar="WORDS",
        example="uid gid",
    ),
    _row("end-blacklist", "End a blacklist.", takes=Takes.NOTHING),
    _row(
        "whitelist",
        "Refuse all but these options up to end-whitelist.",
        metavar="WORDS",
        example="chdir end-whitelist",
    ),
    _row("end-whitelist", "End a whitelist.", takes=Takes.NOTHING),
)

QUESTIONS = (
    _row("get", "Print the value of an option and exit.", metavar="NAME", example="socket"),
    _row("print", "Print a text.", metavar="TEXT", example="hello"),
    _row("iprint", "Print a text while the file is read.", metavar="TEXT", example="hello"),
    _row("exit", "Exit with a code, 1 if none is given.", takes=Takes.OPTIONAL, metavar="CODE"),
    _row(
        "stop", "Stop the instance of a pid file, and exit.", metavar="FILE", example="/run/a.pid"
    ),
    _row("reload", "Reload the instance of a pid file.", metavar="FILE", example="/run/a.pid"),
    _row(
        "pause",
        "Pause the instance of a pid file.",
        "suspend",
        metavar="FILE",
        example="/run/a.pid",
    ),
    _row("resume", "Let a paused instance go on.", metavar="FILE", example="/run/a.pid"),
    _row("show-config", "Print the configuration as ini.", takes=Takes.NOTHING),
    _row("dump-options", "Print the name of every option and exit.", takes=Takes.NOTHING),
    _row("version", "Print the version and exit.", takes=Takes.NOTHING),
    _row("help", "Print the options and exit.", "usage", short="h", takes=Takes.NOTHING),
)

OPTIONS = (
    *LOADERS,
    *VALUES,
    *LOGIC,
    *QUESTIONS,
    *unbuilt(
        AREA,
        required="""
        connect-and-read extract print-sym|print-symbol binary-append-data build-plugin dlopen
        """,
        nothing="cflags dot-h config-py",
    ),
)
