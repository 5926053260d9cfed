"""The TunTap router: packets between jails and the host through one isolated process.

``router`` starts that process and is it; ``client`` is how its supervisor talks to it, in the
messages of ``protocol``; ``device`` makes tun devices, ``rules`` the tables of the firewall. The
data plane is C (``_plane``).
"""
