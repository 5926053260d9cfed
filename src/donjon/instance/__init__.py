"""An instance: one Launch carried out, from the first hook to the exit status.

``startup`` is the order of things up to the master, ``phases`` runs hooks and the drop of
privileges wherever the server asks, ``output`` sends the log to a file and the process to the
background, ``entry`` has the two ways in: from a command line, and as a vassal that an Emperor's
spawner forked. The order is that of uwsgi-facts 2.1, with one difference: the privilege phase runs
once, not up to four times.
"""

from donjon.instance.entry import run, vassal_main
from donjon.instance.proxy import adopt_emperor
from donjon.instance.startup import EmperorMain, ReadAgain

__all__ = ["EmperorMain", "ReadAgain", "adopt_emperor", "run", "vassal_main"]
