"""The host's side of the card's code, rehearsed: under a driver that runs nothing, in a process of its own.

``tests/without_card/test_rehearsal.py`` builds the driver and runs what is here; ``python -m tests.rehearsal`` takes the time
that a call of a recorded network costs the host.
"""
