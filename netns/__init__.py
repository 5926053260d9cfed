"""Network namespaces: links, and the names of /run/netns.

``links`` waits for an interface by the kernel's own news, through pyroute2; ``naming`` finds the
namespaces that ip-netns(8) named. Addresses and routes are to come.
"""
