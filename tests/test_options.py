"""Options of an ini: what is accepted, and what each complaint says."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.push.options import ConfigError, Options


def complaint(option: str, read: str, **limits: float) -> str:
    """What is said of `x.size = option`, read as a `whole` or as `seconds`."""
    options = Options({"x.size": option}, "x.")
    with pytest.raises(ConfigError) as caught:
        getattr(options, read)("size", 1, **limits)
    return str(caught.value)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def test_an_option_that_is_not_given_is_its_default() -> None:
    options = Options({})
    assert options.text("name", "a name") == "a name"
    assert options.whole("size", 7, least=1) == 7
    assert options.seconds("wait", 2.5) == 2.5
    options.finish()


def test_an_option_that_is_given_is_read_in_place_of_its_default() -> None:
    options = Options({"name": "another", "size": "8", "wait": "0.25"})
    assert options.text("name", "a name") == "another"
    assert options.whole("size", 7, least=1) == 8
    assert options.seconds("wait", 2.5) == 0.25
    options.finish()


def test_blanks_around_a_value_are_not_part_of_it() -> None:
    assert Options({"name": "  two words\t"}).text("name", "") == "two words"


def test_an_empty_text_is_a_text_and_not_the_default() -> None:
    assert Options({"name": ""}).text("name", "default") == ""


def test_options_with_another_prefix_are_not_looked_at() -> None:
    options = Options({"feed.size": "1", "size": "2", "push.size": "3"}, "push.")
    assert options.whole("size", 0, least=0) == 3
    options.finish()


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5))
def test_a_whole_number_is_accepted_within_its_limits_alone(
    number: int, least: int, most: int
) -> None:
    options = Options({"size": str(number)})
    if least <= number <= most:
        assert options.whole("size", 99, least=least, most=most) == number
    else:
        with pytest.raises(ConfigError, match=f"a whole number from {least} to {most}$"):
            options.whole("size", 99, least=least, most=most)


def test_a_whole_number_without_an_upper_limit_may_be_large() -> None:
    assert Options({"size": "1000000"}).whole("size", 1, least=1) == 1_000_000


def test_a_whole_number_that_is_too_small_is_refused_by_key_value_and_limit() -> None:
    assert (
        complaint("0", "whole", least=1) == "x.size = 0: this must be a whole number of at least 1"
    )


def test_a_whole_number_that_is_too_large_is_refused_by_key_value_and_limits() -> None:
    expected = "x.size = 65536: this must be a whole number from 0 to 65535"
    assert complaint("65536", "whole", least=0, most=65535) == expected


@pytest.mark.parametrize("value", ["1.0", "1e3", "0x10", "ten", "", "1 2", "∞"])
def test_what_is_no_whole_number_is_refused(value: str) -> None:
    expected = f"x.size = {value}: this must be a whole number of at least 1"
    assert complaint(value, "whole", least=1) == expected


@pytest.mark.parametrize(("value", "seconds"), [("5", 5), ("0.5", 0.5), ("1e-3", 0.001)])
def test_seconds_need_not_be_whole(value: str, seconds: float) -> None:
    assert Options({"wait": value}).seconds("wait", 1) == seconds


@pytest.mark.parametrize(
    "value", ["0", "-0.0", "-1", "nan", "inf", "-inf", "1e999", "soon", "", "5 s"]
)
def test_seconds_are_a_number_above_zero(value: str) -> None:
    expected = f"x.size = {value}: this must be a number of seconds, more than 0"
    assert complaint(value, "seconds") == expected


def test_zero_seconds_are_accepted_where_that_is_said() -> None:
    assert Options({"wait": "0"}).seconds("wait", 1, zero=True) == 0


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "never"])
def test_where_zero_seconds_are_accepted_these_still_are_not(value: str) -> None:
    expected = f"x.size = {value}: this must be a number of seconds, 0 or more"
    assert complaint(value, "seconds", zero=True) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not is_number(text)))
@example("1__0")
@example("0x1p3")
@example("a\nb")
def test_any_text_that_is_no_number_is_refused_in_one_line_that_names_the_key(text: str) -> None:
    for message in (complaint(text, "whole", least=1), complaint(text, "seconds")):
        assert message.startswith("x.size = ")
        assert len(message.splitlines()) == 1


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False))
def test_any_finite_number_above_zero_comes_back_as_it_was_written(number: float) -> None:
    assert Options({"wait": repr(number)}).seconds("wait", 1) == number


def test_a_name_that_nobody_knows_is_answered_with_the_one_it_resembles() -> None:
    options = Options({"push.max_stream": "5"}, "push.")
    options.whole("max_streams", 1, least=1)
    options.text("boundary", "")
    with pytest.raises(ConfigError) as caught:
        options.finish()
    assert str(caught.value) == (
        "push.max_stream: there is no such option; did you mean push.max_streams?"
    )


def test_a_name_that_resembles_none_is_answered_with_all_of_them() -> None:
    options = Options({"push.colour": "5"}, "push.")
    options.whole("max_streams", 1, least=1)
    options.text("boundary", "")
    with pytest.raises(ConfigError) as caught:
        options.finish()
    assert str(caught.value) == (
        "push.colour: there is no such option; known are push.boundary, push.max_streams"
    )


def test_nobody_catching_it_a_config_error_ends_the_process_with_its_message() -> None:
    with pytest.raises(SystemExit) as caught:
        raise ConfigError("port = x: this must be a number")
    assert caught.value.code == "port = x: this must be a number"
