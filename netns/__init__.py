"""Network namespaces: links, and the names of /run/netns, through pyroute2.

``links`` waits for an interface by the kernel's own news, ``naming`` gives a namespace a name that
``ip netns`` knows. Addresses and routes are to come.
"""
