"""The resolved configuration as an ini file, as ``--show-config`` prints it."""

from __future__ import annotations

from donjon.config.evaluation import Evaluation

HEAD = ";uWSGI instance configuration\n[uwsgi]\n"
TAIL = ";end of configuration\n"


def show_config(evaluation: Evaluation) -> str:
    """Return ini text that gives the same options when it is read.

    Options that acted while reading (``include``, ``for``, ``set``) stand there as comments,
    because what they gave is in the list already. A flag without a value shows as ``true``.
    Values stand as they are: one that holds a percent sign or a newline is not what it was when
    the text is read again.
    """
    lines = []
    for shown in evaluation.shown:
        entry = shown.entry
        mark = ";" if shown.done else ""
        value = "true" if entry.value is None else entry.value
        lines.append(f"{mark}{entry.key} = {value}\n")
    return f"{HEAD}{''.join(lines)}{TAIL}"
