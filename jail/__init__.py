"""The jail: from typed values to an ordered list of steps, and the steps themselves.

``spec`` holds what was asked for, ``phase`` the moments at which things happen, ``plan`` turns a
spec into steps, the other modules do one kind of step each. Nothing here knows that a
configuration file exists.
"""
