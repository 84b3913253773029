"""The handover: how a machine's workers give their clients' connections to one process.

A server with several workers has one *broadcaster*: the process that holds all streams and runs all
feeds. A worker that has a request for a stream sends the broadcaster the connection's descriptor
(SCM_RIGHTS, over a Unix socket) and what the request says, and closes its own copy. From then on
the worker may end, be replaced or be killed: the stream stays.

A worker uses `Handover`. The broadcaster process runs a `Receiver`, which calls a `Handler`. The
bytes between them are defined in `wire`, what they mean in `messages`.
"""

from pushdemo.handover.address import VARIABLE, socket_path
from pushdemo.handover.client import BroadcasterAway, Handover, HandoverLost
from pushdemo.handover.messages import Refused, Request
from pushdemo.handover.server import Handler, Receiver

__all__ = [
    "VARIABLE",
    "BroadcasterAway",
    "Handler",
    "Handover",
    "HandoverLost",
    "Receiver",
    "Refused",
    "Request",
    "socket_path",
]
