"""The resolver of vassals with ``network = tap``: their own names, and everything else upstream.

``launch`` opens its sockets and starts it, ``resolver`` is the process; ``book`` is what its
supervisor tells it, ``answers`` what is said on the wire, ``forwarder`` who is asked upstream,
``streams`` are jails' TCP connections, ``budget`` what each jail may take.

What must hold between strangers: a jail is told its own names alone, and by its address, which the
router vouches for. Nothing is remembered of an answer: there is no cache in which one jail could
put something for another, or see what another asked. Each question upstream has a socket, and so a
source port, and an id of its own. What one jail takes (questions at a time, questions a second,
connections) is bounded, and what all take together is taken from whoever takes most.
"""
