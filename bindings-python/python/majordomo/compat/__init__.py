"""The class and method names of the ZeroMQ Guide's Python examples.

A program written for the Guide's ``mdcliapi``, ``mdcliapi2`` or ``mdwrkapi`` runs after changing its import, for
example to ``from majordomo.compat.mdcliapi import MajorDomoClient``. Service names may be bytes or str, replies are
lists of bytes, durations are milliseconds, and where the Guide's classes return None after a failure so do these.
"""
