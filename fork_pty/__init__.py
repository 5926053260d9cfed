"""Terminals into instances: the forkpty router, its sessions, and the clients of both.

A router is a process of the instance, inside its jail, and of the jail's user: what it starts is
as confined as itself. It gives each client a pseudoterminal of the jail's own devpts. ``router``
admits, ``session`` is one terminal and who looks at it, ``peer`` one connection, ``shell`` the
program; ``protocol`` says what bytes mean. ``client`` and ``terminal`` are the other end.
``shared`` and ``screen`` show the terminal of worker 1 to all who may look at it.
"""
