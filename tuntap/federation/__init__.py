"""Routers of two hosts joined over TCP with TLS, so that their jails share a network.

One process holds all links of a host (``process``); the router, which has no network, is given
one end of a pair of sockets for each peer and knows which networks are that peer's alone.

A link is a stream of frames as the original's (uwsgi-facts 5.2): kind 0 is a packet, others are
what the two ends say to each other (``wire``). Who a peer is, its certificate says: the operator
gives each a name, the networks in which its jails may have addresses, and one authority for all.
"""
