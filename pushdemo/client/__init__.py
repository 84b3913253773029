"""The client: an iterator over a server's events, that outlives the connection.

    from pushdemo.client import watch

    with watch("http://127.0.0.1:5000/server/index/clock") as events:
        for event in events:
            print(event.computed, event.value)

It reads every format that the server has, comes back when the connection breaks, and then asks for
what it missed. It raises WatchError when that is of no use:

    Refused         the server does not answer such a request with events (404, 406, …)
    BadStream       what it answers is not the format it says: what was expected, and what came
    TooLarge        a BadStream: an event is larger than the limit
    Disconnected    the connection failed or broke, and the caller wants no other

`publish` sends a value to a feed whose values come from outside.

The layers, each of which knows only those before it: `event` is what comes out; `parser`, and a
module for each format, turn bytes into events, without sockets; `connection` turns an address into
a response; `watcher` asks again.
"""

from pushdemo.client.errors import BadStream, Disconnected, Refused, TooLarge, WatchError
from pushdemo.client.event import Event
from pushdemo.client.formats import FORMATS, parser_for
from pushdemo.client.publishing import publish
from pushdemo.client.watcher import Watch, watch

__all__ = ["FORMATS", "BadStream", "Disconnected", "Event", "Refused", "TooLarge", "Watch",
           "WatchError", "parser_for", "publish", "watch"]  # fmt: skip
