"""How the formats say that a feed fails, or that it works again."""

from __future__ import annotations

import json

from pushdemo.push.event import FeedStatus


def status_json(status: FeedStatus) -> str:
    content: dict[str, object] = {"event": status_name(status), "feed": status.feed}
    if status.failing_since is not None:
        content["since"] = round(status.failing_since, 3)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def status_name(status: FeedStatus) -> str:
    return "recovered" if status.failing_since is None else "error"
