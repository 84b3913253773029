"""How the formats say that a feed fails, or that it works again."""

from __future__ import annotations

import json

from pushdemo.push.event import Trouble


def trouble_json(trouble: Trouble) -> str:
    content: dict[str, object] = {"event": trouble_name(trouble), "feed": trouble.feed}
    if trouble.since is not None:
        content["since"] = round(trouble.since, 3)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def trouble_name(trouble: Trouble) -> str:
    return "recovered" if trouble.since is None else "error"
