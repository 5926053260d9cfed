"""Links, addresses, routes and names of network namespaces, through pyroute2. To come."""
