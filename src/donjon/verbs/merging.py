"""``donjon ksm``: what the kernel saves by merging equal pages."""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon.errors import DonjonError
from donjon.jail import ksm
from donjon.verbs import arguments, text


def main(verb: str, words: Sequence[str]) -> int:
    """Print it for people, for programs, or as the line that collectd's exec plugin takes."""
    parser = arguments.parser(verb, more='collectd: Exec "nobody" "donjon" "ksm" "--collectd"')
    parser.add_argument("--collectd", action="store_true", help="print a line of its protocol")
    parser.add_argument("--host", default=os.uname().nodename, help="host name in that line")
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    status = ksm.status()
    if status is None:
        raise DonjonError("this kernel cannot merge pages", hint="CONFIG_KSM")
    if chosen.collectd:
        print(status.collectd(chosen.host))
    elif chosen.json:
        text.as_json(status.to_json())
    else:
        running = "is on" if status.run == 1 else f"is off: write 1 to {ksm.CONTROL}/run"
        print(f"merging {running}")
        print(
            f"{text.size(status.saved)} saved: {status.pages_sharing} pages are copies of others"
        )
        print(f"{status.pages_shared} pages are kept for all of them")
    return 0
