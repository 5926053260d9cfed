"""The same configurations under the original's ``--show-config``: options, values and order agree.

Left out of both lists is what acts while reading (loaders, logic, ``set``), which the original lists and
donjon shows as comments. Where donjon is meant to differ, no case stands here: ``docs/config.md`` names
the differences.
"""

import subprocess

import pytest

from donjon.config.evaluate import evaluate
from donjon.config.options import find
from donjon.config.world import Facts, OpenWorld

pytestmark = pytest.mark.uwsgi

ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/root", "SET": "value"}

FILES = {
    "inc.ini": "[uwsgi]\nenv = INC=%n %N %x %X\nfrom-inc = 1\n[sec]\nenv = SEC=%x\n",
    "plain.ini": "[uwsgi]\nenv = %n\n",
    "inc.xml": "<uwsgi><env>XML=%n</env><master/></uwsgi>",
    "lines": "one\n\n two \nthree",
    "secret": "top\nsecret\n\n",
    "d/a.x": "",
    "d/b.x": "",
    "before": "[uwsgi]\nenv = BEFORE\n",
    "after": "env = AFTER\n",
}

CASES = {
    "grammar": '; c\n# c\n[other]\nenv = no\n[uwsgi]\n  a =  b c \n\td\t=\te\nmaster\nq = "as is"\nh = a # c\ne=f=g',
    "sections": "[uwsgi]\nenv = main\nini = :extra\n[extra]\nenv = extra\n[uwsgi]\nenv = again\n",
    "odd sections": "a = 1\n[ uwsgi ]\nb = 1\n[uwsgi] ; c\nc = 1\n[uwsgi]\nd = 1\n[]\ne = 1\n",
    "crlf": "[uwsgi]\r\nenv = A\r\nenv = B\r\n",
    "placeholders": "base = 10\nset = more=5\nset-ph = two=2\nenv = %(base)-%(more)-%(two) %(missing)\n",
    "arithmetic": (
        "base = 10\ntwo = 2\nneg = -7\nword = HOME\nenv = %(base + 3) %(2 * 3) %( base ) %(base+3) %(base)\n"
        "env = %() %(%(base)) %(base * base base) %(base +) %(base - two * two) %(base / 3) %(base / no)\n"
        "env = %(base ++) %(base ++ ++) %(10 --) %(word + 3) %(two - 5) %(word two 7 x) %(0x10 + 1)\n"
        "env = %(99999999999 * 99999999999) %(two -5) %(-7 / 2) %(neg / 2) %(two % 2) %(base base)\n"
    ),
    "references": (
        "c = 1\nv = HOME\nenv = x%(a)\na = 7\nenv = $(HO%(c)ME) $(%(v)) %(v))( $$(HOME) %(c(c)c) %(c $(NO)\n"
        "env = @(secret) @(exec://echo $(echo \"(hi)\")) @(exec://printf 'a\\n\\n')\n"
    ),
    "first value": "processes = 4\nprocesses = 8\nenv = %(processes)\n",
    "magic": (
        "env = o<%o> p<%p> s<%s> d<%d> e<%e> n<%n> c<%c> x<%x> i<%i> j<%j> 0<%0> 1<%1> 9<%9>\n"
        "env = O<%O> P<%P> S<%S> D<%D> E<%E> N<%N> C<%C> X<%X> I<%I> J<%J>\n"
        "env = v<%v> h<%h> k<%k> u<%u> U<%U> g<%g> G<%G> <%[> q<%q> p<%%> ph<%(a)> %%s %z!\n"
    ),
    "includes": "env = A\ninclude = inc.ini\nenv = B%(from-inc)\nini = inc.ini:sec\ninclude = inc.xml\nenv = %n\n",
    "schemes": "ini = exec://cat inc.ini\nenv = %n\n",
    "loops": (
        "for = a  b\tc\nenv = %(_)1\nenv = %(_)2\nendfor\nfor-times = 3\nenv = %(_)\nend-for =\n"
        "for-times = x\nenv = no\nendfor\nfor =\nenv = no\nendfor\nfor-readline = lines\nenv = <%(_)>\nendfor\n"
        "for-glob = d/*\nenv = %(_)\nendfor\nfor-glob = no/*\nenv = %(_)\nendfor\n"
    ),
    "conditions": "".join(
        f"{opener}\nenv = {n}%(_)\nendif\n"
        for n, opener in enumerate(
            [
                "a = 1",
                "if-env = SET",
                "if-env = SET=value",
                "if-env = SET=x",
                "if-env = NO",
                "if-not-env = NO",
                "if-not-env = SET",
                "if-not-env = SET=x",
                "if-opt = a",
                "if-opt = a=1",
                "if-opt = a=2",
                "if-not-opt = no",
                "if-exists = d",
                "if-not-exists = no",
                "if-file = d",
                "if-file = lines",
                "if-dir = d",
                "if-not-dir = lines",
                "if-reload =",
                "if-hostname = no",
                "if-not-hostname = no",
                "ifenv = SET",
                "ifexists = d",
                "ifdir = d",
            ]
        )
    ),
    "a block in a block that does not hold": "if-env = NO\nfor = a b\nenv = x\nendfor\nenv = Y\nendif\n",
    "inherit": "inherit = inc.ini\nenv = A%(from-inc)\nenv = B\n",
    "lists": "blacklist = foo bar\nenv = A\nend-blacklist = 1\nfoo = 1\n",
    "underscores": "reload_mercy = 4\nfoo_bar = 2\nenv = %(foo-bar)%(foo_bar)\n",
    "strict": "strict = true\nenv = A\nset-ph = p=1\n",
}

ARGUMENTS = {
    "values": ["--env=A=1", "--env", "B=2", "-p", "3", "-M", "--no-serv", "--env", "%n %%"],
    "files": ["--env", "1", "plain.ini", "--env", "2", "inc.xml"],
    "set": ["--set", "a=%d", "--set", "processes=2", "--set-ph", "q=b", "--env", "%(a)%(q)"],
    "logic": ["--for", "a b", "--env", "%(_)", "--endfor=1", "--env", "END"],
    "inject": ["--inject-before", "before", "--inject-after", "after", "--ini", "body.txt"],
    "environment": ["--env", "%(foo)$(SET)"],
}


def acts(key):
    row = find(key)
    return row is not None and (row.immediate or row.name == "strict")


@pytest.fixture
def both(place):
    for name, text in FILES.items():
        place.write(name, text)
    place.write("body.txt", "env = BODY\n")

    def run(argv, environ):
        argv = [*argv, "--show-config", "--no-server"]
        original = subprocess.run(
            ["uwsgi", *argv],
            cwd=place.path,
            env=environ,
            capture_output=True,
            timeout=20,
            check=False,
        )
        shown = original.stdout + original.stderr
        text = shown.decode().partition("[uwsgi]\n")[2].partition(";end of configuration")[0]
        assert text, shown.decode()[-500:]
        theirs = [line.partition(" = ")[::2] for line in text.split("\n")]
        world = OpenWorld(facts=Facts(cwd=str(place.path)), environ=environ)
        ours = [
            (entry.key, "true" if entry.value is None else entry.value)
            for entry in evaluate(argv, environ=environ, world=world).entries
        ]
        joined = [line for e in ours for line in f"{e[0]} = {e[1]}".split("\n") if not acts(e[0])]
        kept = [
            line for pair, line in zip(theirs, text.split("\n"), strict=True) if not acts(pair[0])
        ]
        return joined, kept[:-1]

    return run


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_a_file_gives_what_the_original_gives(both, place, text):
    name = place.write("sub/my.conf.ini", text if "[uwsgi]" in text else "[uwsgi]\n" + text)
    ours, theirs = both(["--ini", name], ENVIRON)
    assert ours == theirs


@pytest.mark.parametrize("argv", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_command_line_gives_what_the_original_gives(both, argv):
    environ = {**ENVIRON, "UWSGI_FOO": "1", "UWSGI_HTTP_TO": "x", "UWSGI_RELOAD_MERCY": "%n"}
    ours, theirs = both(argv, environ)
    assert ours == theirs


XML = """<?xml version="1.0"?>
<uwsgi>
 <!-- c -->
 <master/>
 <env> A=1 </env>
 <env>x &amp; y</env>
 <env><![CDATA[cd<at>a]]></env>
 <none></none>
 <pct>%n %%</pct>
</uwsgi>
"""

YAML = """other:
  env: A=0
uwsgi:
  # c
  master: true
  env: A=1 # tail
  env: "quoted # x"
  tilde: ~
  list:
    - a
    - b
  flow: [c, d]
  num: 010
  where: /%n/%(num)
"""


@pytest.mark.parametrize(("extension", "text"), [("xml", XML), ("yaml", YAML)])
def test_another_format_gives_what_the_original_gives(both, place, extension, text):
    ours, theirs = both([f"--{extension}", place.write(f"my.{extension}", text)], ENVIRON)
    assert ours == theirs
