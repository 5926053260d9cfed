"""What C headers say, read from their text: one place where both languages must agree."""

import re
from pathlib import Path

from donjon import emperor

HERE = Path(emperor.__file__).parent


def text(name):
    """A file of the package emperor."""
    return (HERE / name).read_text()


def enumerated(source, name=""):
    """The names and numbers of an enumeration in a header."""
    body = re.search(rf"enum {name + ' ' * bool(name)}\{{(.*?)\}};", source, re.DOTALL)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    values, last = {}, -1
    for item in filter(None, map(str.strip, body.split(","))):
        word, _, value = map(str.strip, item.partition("="))
        last = last + 1 if not value else ord(value[1]) if value[0] == "'" else int(value, 0)
        values[word] = last
    return values
