"""Any value that a feed can have, for tests of what carries it."""

from __future__ import annotations

from hypothesis import strategies as st

from pushdemo.push.compute.payload import Blob, payload_of

_json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_types = st.sampled_from(["image/png", "text/plain", "application/json"])

any_payload = _json_values.map(payload_of) | st.builds(Blob, st.binary(), _types)
