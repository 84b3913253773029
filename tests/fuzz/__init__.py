"""A seeded fuzzer: hostile clients by the hundred thousand, beside streams that must not notice.

    python -m tests.fuzz --requests 200000 --seed 1

What connection number `index` of a run does is determined by the seed and the index: `--index` runs
one again, `--only KIND` runs only one kind, with the same bytes that it has in a whole run.

steps.py    what a client can do, and the register of the kinds
heads.py, asks.py, phases.py, sockets.py    the kinds
attacks.py  all of them, and which one is whose turn
engine.py   runs many at a time, and looks at what they are answered
target.py   the server, and what of the system it uses
streams.py  the recording streams, in a process of their own
run.py      a run, and its report
"""
