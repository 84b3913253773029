"""The XML of a value, read back by a parser that is not ours."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import Data, Text, payload_of
from pushdemo.push.encode.xml import xml_message

# What XML 1.0 can hold.
xml_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r")
)


def values(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=15,
    )


def message(value: object) -> bytes:
    payload = payload_of(value)
    assert isinstance(payload, Text | Data)
    return xml_message(payload)


def inner(value: object) -> str:
    """What stands in the root."""
    found = re.fullmatch(rb".*?\n<message>(.*)</message>\n", message(value), re.S)
    assert found
    return found[1].decode()


def written(value: object) -> str:
    """A leaf as the text of its element, by the JSON it came from."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def check(element: ElementTree.Element, value: object) -> None:
    """The element has this value's structure, keys and text."""
    if isinstance(value, dict):
        assert [child.get("key", child.tag) for child in element] == list(value)
        members = list(value.values())
    elif isinstance(value, list):
        assert [(child.tag, child.attrib) for child in element] == [("item", {})] * len(value)
        members = value
    else:
        assert len(element) == 0
        assert (element.text or "") == written(value)
        return
    assert not element.text
    for child, member in zip(element, members, strict=True):
        assert not child.tail
        check(child, member)


@given(values(xml_text))
@example({"item": [{"item": 1}], "message": "]]>", "a b": {"<&\">'": "\r\n\t"}, "": None})
@example({"xml": 1, "XMLx": 2, "1a": 3, "a:b": 4, "-a": 5, "ü": 6, "_": 7, "a.b-c": 8})
def test_structure_keys_and_text_come_back(value: Any) -> None:
    root = ElementTree.fromstring(message(value))
    assert root.tag == "message"
    check(root, value)


@given(values(st.text()))
@example({"\0": "\ufffe", "a\uffff": ["\x1b"]})
def test_any_value_at_all_makes_a_document_that_parses(value: Any) -> None:
    ElementTree.fromstring(message(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a < b", "a &lt; b"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (1.5, "1.5"),
        ([], ""),
        ({}, ""),
        ([1, [2, 3]], "<item>1</item><item><item>2</item><item>3</item></item>"),
        ({"open": 3, "late": [4]}, "<open>3</open><late><item>4</item></late>"),
        ({"": 1}, '<item key="">1</item>'),
        ({"two words": 1}, '<item key="two words">1</item>'),
        ({'"><x>&': 1}, '<item key="&quot;>&lt;x>&amp;">1</item>'),
        ({"xmlns": 1}, '<item key="xmlns">1</item>'),
        ({"a\n": 1}, '<item key="a&#10;">1</item>'),
        ({"größe": 1}, '<item key="größe">1</item>'),
        ({1: 2}, '<item key="1">2</item>'),
    ],
)
def test_a_value_is_this_document(value: object, expected: str) -> None:
    assert inner(value) == expected


def test_the_root_s_first_child_is_the_text() -> None:
    """The seed's page shows documentElement.firstChild.data."""
    assert ElementTree.fromstring(message("12 orders")).text == "12 orders"
    assert ElementTree.fromstring(message(12)).text == "12"


def test_what_xml_has_no_place_for_is_replaced_in_keys_and_text() -> None:
    root = ElementTree.fromstring(message({"a\0": "\x0b"}))
    assert (root[0].get("key"), root[0].text) == ("a\ufffd", "\ufffd")
