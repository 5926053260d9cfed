"""Configuration: from files, command line and environment to one frozen Launch.

``reader`` parses formats, ``expand`` resolves placeholders and logic, ``options`` is the table of every
option, ``launch`` builds the typed values that the packages below take.
"""
