"""Network namespaces: made and configured ahead of a birth, links, and the names of /run/netns.

``wanted`` says what is to be made, ``helper`` is the process that makes it and who speaks to it,
``making`` and ``tun`` what it does. ``nat`` writes the host's table of translations. ``links``
waits for an interface by the kernel's own news; ``naming`` finds the namespaces that ip-netns(8)
named. Links, addresses and routes go through pyroute2.
"""
