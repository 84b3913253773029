"""A contest: this application beside other servers that can do its job.

Each of those is a program, written as its own documentation would have it:

    python -m benchmarks.contest.NAME --interval SECONDS --size BYTES [--busy]

It makes a value of benchmarks.feed every INTERVAL seconds, once for everybody, and sends each to
all who have asked for `/feed`, as an event stream; who is new gets the newest at once. What it does
for clients that are too slow is what its library does. SIGTERM ends it. What is no contestant's own
is in program.py; asyncio's two share broadcast.py. crowd.c is the client, bare.c what the kernel
costs without any of them.

contestants.py says who takes part, measuring.py measures one run, __main__.py makes all of them,
and report.py writes what came of it.
"""
