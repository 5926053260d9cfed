"""The Emperor: watches configurations and keeps each vassal alive; one thread, one epoll loop.

``scanner`` finds configurations, ``vassal`` is the state-by-event table, ``spawner`` the zygote
that gives birth, ``loop`` ties them together, ``control`` answers the operator.
"""
