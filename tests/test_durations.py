"""Durations: what is accepted, what is refused, and how they are written for people."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitkit import after
from waitkit.ground.durations import format_duration, to_nanoseconds, to_optional_nanoseconds

UNITS = {"d": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SHOWN = {"d": "d", "h": "h", "min": "m", "s": "s", "ms": "ms", "us": "us"}


@given(st.lists(st.sampled_from(list(UNITS)), min_size=1, unique=True), st.data())
def test_text_adds_up_exactly(chosen, data):
    """A text of whole parts from large to small is their exact sum."""
    parts = [(data.draw(st.integers(0, 10**6)), unit) for unit in UNITS if unit in chosen]
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert to_nanoseconds(text) == sum(number * UNITS[unit] for number, unit in parts)


@given(st.lists(st.sampled_from(list(UNITS)), min_size=2, max_size=4))
def test_text_out_of_order_or_twice_is_refused(chosen):
    """Units that rise, or come twice, are refused."""
    order = [list(UNITS).index(unit) for unit in chosen]
    text = "".join(f"1{unit}" for unit in chosen)
    if order == sorted(set(order)):
        assert to_nanoseconds(text) == sum(UNITS[unit] for unit in chosen)
    else:
        with pytest.raises(ValueError, match=re.escape(repr(text))):
            to_nanoseconds(text)


@given(st.integers(0, 10**9))
def test_whole_seconds_are_exact(seconds):
    """An int is that many seconds, however it is written."""
    expected = seconds * 10**9
    assert (
        to_nanoseconds(seconds)
        == to_nanoseconds(f"{seconds}s")
        == to_nanoseconds(timedelta(seconds=seconds))
        == expected
    )


@given(st.integers(0, 10**15))
def test_floats_survive_a_round_trip_to_the_nanosecond(nanoseconds):
    """Nanoseconds written as a float of seconds, of up to eleven days, come back as they were."""
    assert to_nanoseconds(nanoseconds / 1e9) == nanoseconds


@given(st.timedeltas(min_value=timedelta(0)))
def test_timedeltas_are_exact(duration):
    """A timedelta is taken to its last microsecond."""
    assert to_nanoseconds(duration) == duration // timedelta(microseconds=1) * 1000


@given(st.decimals(0, 10**4, places=3))
def test_fractions_in_text_count(number):
    """A number with a fraction is accepted for every unit, and rounded to the nanosecond."""
    for unit, size in UNITS.items():
        assert abs(to_nanoseconds(f"{number}{unit}") - int(number * 1000) * size / 1000) <= max(
            1, 1e-12 * int(number) * size
        )


@pytest.mark.parametrize("bad", [True, False, None, b"1s", [], {}, 1j, object, range(3)], ids=repr)
def test_other_types_are_refused(bad):
    """What is no number, timedelta or text is a TypeError that names parameter, value and accepted forms."""
    with pytest.raises(TypeError, match=r"patience=.* is not a duration: accepted are .*timedelta.*1m30s") as caught:
        to_nanoseconds(bad, "patience")
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), float("-inf"), -1, -1e-9, timedelta(microseconds=-1)], ids=repr
)
def test_impossible_numbers_are_refused(bad):
    """NaN, infinity and the past are a ValueError that names the value and the accepted forms."""
    with pytest.raises(ValueError, match=r"patience=.*accepted are") as caught:
        to_nanoseconds(bad, "patience")
    assert repr(bad) in str(caught.value)


BAD_TEXTS = [
    "",
    " ",
    "1",
    "s",
    "1 s",
    "1s ",
    "1s\n",
    "-1s",
    "+1s",
    "1e3s",
    ".5s",
    "1.s",
    "1S",
    "1min",
    "1sec",
    "1.5.5s",
    "1,5s",
]
BAD_TEXTS += ["1s1s", "1s1m", "1ms1s", "nan", "infs", "1_000s", "0x1s", "1µs", "1m 30s", "1s;"]


@pytest.mark.parametrize("bad", BAD_TEXTS, ids=repr)
def test_other_texts_are_refused(bad):
    """A text of another form is a ValueError that names it and the accepted forms."""
    with pytest.raises(ValueError, match=r"accepted are seconds as a number") as caught:
        to_nanoseconds(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "bad", [1e300, 10**400, "1" * 400 + ".0s", "9" * 5000 + "s", "\u0661s"], ids=lambda bad: repr(bad)[:12]
)
def test_numbers_beyond_reason_are_refused_like_others(bad):
    """A number that no clock can hold is a ValueError of the usual form, not an OverflowError now or in a message later."""
    with pytest.raises(ValueError, match="accepted are"):
        to_nanoseconds(bad)


#: What durations are made of, what looks like it, and what breaks parsers. (Of all characters, hypothesis would first make a table
#: for seconds.)
CHARACTERS = "0123456789.,:-+eE_ smhduMnµμ\t\n\0\x85\u00a0\u0661\u06f2\u09ea\u00b2\u2155\u2009\ufeff\U0001d7d8\ud800\u0301∞'\"%{}"


@given(st.text(CHARACTERS, max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text):
    """No text brings up another exception, or a negative duration."""
    try:
        assert to_nanoseconds(text) >= 0
    except ValueError as error:
        assert repr(text) in str(error)


def test_none_means_no_limit_only_where_asked_for():
    """None is a duration only for the optional form."""
    assert to_optional_nanoseconds(None) is None
    assert to_optional_nanoseconds("1s") == 10**9
    with pytest.raises(TypeError):
        to_nanoseconds(None)


def _read(shown):
    """The nanoseconds that a written duration stands for."""
    words = shown.split()
    return sum(float(number) * UNITS[SHOWN[unit]] for number, unit in zip(words[::2], words[1::2], strict=True))


@given(st.one_of(st.integers(0, 10**12), st.integers(0, 10**17)))
def test_written_durations_are_close(nanoseconds):
    """What is written is within one percent of what it stands for; from a minute on, within one of its second unit."""
    slack = max(0.01 * nanoseconds, 0.51)
    for unit, second in (("m", "s"), ("h", "m"), ("d", "h")):
        if nanoseconds >= UNITS[unit] - UNITS["s"]:
            slack = UNITS[second] + UNITS["s"] / 2
    assert abs(_read(format_duration(nanoseconds)) - nanoseconds) <= slack


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0 s"), (1, "0.001 us"), (1_500, "1.5 us"), (250_000_000, "250 ms"), (999_999_999, "999 ms"),
        (1_500_000_000, "1.5 s"), (9_999_999_999, "9.99 s"), (10**10, "10 s"), (125 * 10**9, "2 min 5 s"),
        (12_000 * 10**9, "3 h 20 min"), (86_400 * 10**9, "1 d"),
    ],
)  # fmt: skip
def test_durations_as_people_read_them(nanoseconds, shown):
    """Two units at most; what is below a limit is never written as the limit."""
    assert format_duration(nanoseconds) == shown


@pytest.mark.parametrize("nanoseconds", [999_500, 999_999])
def test_no_scientific_form(nanoseconds):
    """No duration is written with an exponent."""
    assert "e" not in format_duration(nanoseconds)


def test_refused_where_it_is_written():
    """A bad duration is refused when the condition is made, not when it is awaited."""
    with pytest.raises(ValueError, match="duration='5 s'"):
        after("5 s")
