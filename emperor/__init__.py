"""The Emperor: watches configurations and keeps each vassal alive. One thread, one epoll loop.

``scanner`` finds configurations, ``vassal`` is the state × event table, ``spawner`` the zygote that gives
birth, ``loop`` ties them to the clock, ``control`` answers the operator.
"""
