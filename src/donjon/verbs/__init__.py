"""The verbs of the command, one module each; ``cli.VERBS`` is the table of them.

A module has ``main(verb, words) -> int``: it reads its words, prints to standard output, returns
the exit status, and raises DonjonError for what the user can act on. Nothing here does the work
itself: a verb asks the package that does and presents the answer.
"""
