"""What carries events between the processes and machines of one application.

protocol.py says what a broker does; memory.py and redis.py are two. body.py has what they carry,
cluster.py joins a broker to the channels of a process, and leading.py decides which process
computes a feed.

The engine, here, is the server that keeps the logs: Redis, for one. It is no
pushdemo.push.engine.Engine.
"""

from __future__ import annotations

import importlib

from pushdemo.push.broker.protocol import Broker, Misconfigured

MEMORY = "memory"
# By scheme: the module, its class, and what it needs to be installed with.
KINDS = dict.fromkeys(
    ("redis", "rediss", "unix", "valkey", "valkeys"),
    ("pushdemo.push.broker.redis", "RedisBroker", "redis"),
)


def broker_for(address: str) -> Broker | None:
    """The broker that an address names; None for `memory`: a process that is alone needs none.
    Nothing is connected yet. Raises Misconfigured."""
    if address == MEMORY:
        return None
    scheme, colon, _ = address.partition("://")
    if not colon or scheme not in KINDS:
        raise Misconfigured(f"give memory, or a URL that begins with {', '.join(KINDS)}")
    module, name, extra = KINDS[scheme]
    try:
        kind = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"the package {error.name} is missing: pip install 'pushdemo[{extra}]'"
        ) from None
    broker: Broker = kind(address)
    return broker
