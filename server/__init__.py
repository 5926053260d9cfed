"""The application server: C for what runs per request, Python for the life of master and workers.

``spec`` holds what was asked for; ``master`` keeps listeners and generations; ``generation`` loads
the application and forks workers; ``_wsgi`` is the C worker. It does not know namespaces.
"""
