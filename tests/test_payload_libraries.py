"""Values of numpy, pandas, SQLAlchemy, matplotlib and Pillow, made by the libraries themselves."""

from __future__ import annotations

import datetime
import io
import subprocess
import sys
import types
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from PIL import Image

from pushdemo.push.compute.payload import Blob, Data, Text, payload_of

MASKED: Any = np.ma.array  # which has no types in the numpy of Python 3.10


def sent(value: object) -> Any:
    """What arrives; and the same inside of data."""
    payload, inside = payload_of(value), payload_of({"x": [value]})
    assert not isinstance(payload, Blob)
    assert isinstance(inside, Data)
    arrived = payload.text if isinstance(payload, Text) else payload.value
    assert inside.value == {"x": [arrived]}
    return arrived


DAY = "2009-02-04"
RECORDS = np.array([(1, 2.5, "a"), (2, np.nan, "b")], dtype=[("i", "i4"), ("f", "f8"), ("s", "U3")])
MASKED_RECORDS = MASKED(RECORDS[:1], mask=np.array([(0, 1, 0)], dtype="?,?,?"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.float64(0.1), 0.1),
        (np.float32(21.3), 21.3),
        (np.float16(0.1), 0.1),
        (np.longdouble(1.5), 1.5),
        (np.float32("nan"), None),
        (np.float64("inf"), None),
        (np.str_("x"), "x"),
        (np.datetime64(DAY), DAY),
        (np.datetime64(f"{DAY}T01:02:03.5"), f"{DAY}T01:02:03.500"),
        (np.datetime64("NaT", "s"), None),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.timedelta64("NaT", "s"), None),
        (np.array(5), 5),
        (np.array(21.3, dtype="f4"), 21.3),
        (np.array(DAY, dtype="M8[D]"), DAY),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1, np.nan, -np.inf]), [1.0, None, None]),
        (np.array([21.3, np.nan], dtype="f4"), [21.3, None]),
        (np.array([1.5], dtype=np.longdouble), [1.5]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "ü"]), ["a", "ü"]),
        (np.array([[DAY], ["NaT"]], dtype="M8[D]"), [[DAY], [None]]),
        (np.array([90], dtype="m8[s]"), [90.0]),
        (np.array([None, datetime.date(2009, 2, 4)]), [None, DAY]),
        (np.zeros((0, 3)), []),
        (RECORDS, [{"i": 1, "f": 2.5, "s": "a"}, {"i": 2, "f": None, "s": "b"}]),
        (RECORDS[0], {"i": 1, "f": 2.5, "s": "a"}),
        (RECORDS[:1].reshape(()), {"i": 1, "f": 2.5, "s": "a"}),
        (np.rec.array(RECORDS[:1]), [{"i": 1, "f": 2.5, "s": "a"}]),
        (np.ma.masked, None),
        (MASKED([1, 2], mask=[False, True]), [1, None]),
        (MASKED([21.3, 2], mask=[False, True], dtype="f4"), [21.3, None]),
        (MASKED(np.array([DAY, DAY], "M8[D]"), mask=[False, True]), [DAY, None]),
        (MASKED_RECORDS, [{"i": 1, "f": None, "s": "a"}]),
        (MASKED_RECORDS[0], {"i": 1, "f": None, "s": "a"}),
    ],
)
def test_numpy(value: object, expected: object) -> None:
    assert sent(value) == expected


@given(st.lists(st.floats(width=32)))
def test_a_narrow_float_is_read_back_as_it_was(numbers: list[float]) -> None:
    array = np.array(numbers, dtype="f4")
    finite = array[np.isfinite(array)]
    assert np.array_equal(np.array(sent(finite), dtype="f4"), finite)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.complex128(1), r"^an object of type numpy.complex128 cannot be sent"),
        (np.array([1j]), r"^\[0\]: an object of type complex cannot be sent"),
        (np.array([b"x"]), r"^\[0\]: an object of type bytes cannot be inside data"),
        (np.void(b"x"), "^an object of type numpy.void "),
        (np.timedelta64(1, "Y"), "^an object of type numpy.timedelta64 cannot be read"),
        (np.dtype("f8"), "^an object of type numpy.dtype.*cannot be sent"),
        (np.random.default_rng(1), "^an object of type numpy.random.*cannot be sent"),
    ],
)
def test_what_numpy_has_that_json_has_not(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        payload_of(value)


FRAME = pd.DataFrame(
    {
        "id": [1, 2],
        "price": [1.5, np.nan],
        "at": pd.to_datetime([DAY, None]),
        "kind": pd.Categorical(["u", "v"]),
        "count": pd.array([1, None], dtype="Int64"),
    }
)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "price": 1.5, "at": f"{DAY}T00:00:00", "kind": "u", "count": 1},
    {"id": 2, "price": None, "at": None, "kind": "v", "count": None},
]
PAIRS = pd.MultiIndex.from_tuples([(1, "a")], names=["n", None])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (FRAME, ROWS),
        (FRAME.set_index("id"), ROWS),
        (FRAME.iloc[1:], [{"index": 1, **ROWS[1]}]),
        (FRAME.rename_axis("row"), [{"row": n, **row} for n, row in enumerate(ROWS)]),
        (pd.DataFrame({"x": [1]}, index=PAIRS), [{"n": 1, "level_1": "a", "x": 1}]),
        (pd.DataFrame([[1, 2]]), [{"0": 1, "1": 2}]),
        (pd.DataFrame(), []),
        (pd.DataFrame({"x": np.array([21.3], dtype="f4")}), [{"x": 21.3}]),
        (FRAME["price"], [1.5, None]),
        (FRAME.groupby("kind", observed=True).size(), {"u": 1, "v": 1}),
        (pd.Series([1], index=pd.to_datetime([DAY])), {f"{DAY}T00:00:00": 1}),
        (pd.cut(pd.Series([1, 5]), [0, 3, 6]), ["(0, 3]", "(3, 6]"]),
        (pd.Series([0.1, None], dtype="Float32"), [0.1, None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Index([1, 2]), [1, 2]),
        (pd.RangeIndex(2), [0, 1]),
        (PAIRS, [[1, "a"]]),
        (pd.Categorical(["a", None]), ["a", None]),
        (pd.array([1.5, None], dtype="Float64"), [1.5, None]),
        (pd.Timestamp(f"{DAY}T00:00:00.123456789Z"), f"{DAY}T00:00:00.123456789+00:00"),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Timedelta("90s"), 90.0),
        (pd.Interval(0, 1), "(0, 1]"),
        (pd.Period("2009-02"), "2009-02"),
    ],
)
def test_pandas(value: object, expected: object) -> None:
    assert sent(value) == expected


def test_a_frame_s_member_that_cannot_be_sent_is_named_by_row_and_column() -> None:
    with pytest.raises(TypeError, match=r"^\[1\]\.x: an object of type object cannot be sent"):
        payload_of(pd.DataFrame({"x": [1, object()]}))
    with pytest.raises(ValueError, match=r"^\[0\]\.x: two keys, of types str and str, become this"):
        payload_of(pd.DataFrame([[1, 2]], columns=["x", "x"]))
    with pytest.raises(TypeError, match=r"^\[0\]: a key of type tuple cannot be sent"):
        payload_of(pd.DataFrame({("a", "b"): [1]}))


def test_rows_of_sqlalchemy_are_mappings_by_column() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT 1 AS id, 'x' AS name")
        assert sent(connection.execute(query).all()) == [{"id": 1, "name": "x"}]
        assert sent(connection.execute(query).one()) == {"id": 1, "name": "x"}
        assert sent(connection.execute(query).mappings().all()) == [{"id": 1, "name": "x"}]
    engine.dispose()


# --- Pictures


def size(value: object) -> tuple[int, int]:
    """Of the PNG that is sent for it."""
    payload = payload_of(value)
    assert isinstance(payload, Blob)
    assert payload.content_type == "image/png"
    with Image.open(io.BytesIO(payload.data), formats=["PNG"]) as image:
        image.load()
        return (image.width, image.height)


def test_a_figure_is_a_png() -> None:
    figure = Figure(figsize=(2, 1), dpi=50)
    axes = figure.subplots()
    axes.plot([1, 2])
    assert size(figure) == size(axes) == (100, 50)
    assert payload_of(figure) == payload_of(axes)
    left = Figure(figsize=(2, 1), dpi=50).add_subfigure(GridSpec(1, 2)[0])
    assert size(left) == size(left.subplots()) == (100, 50)


def test_pyplot_is_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    mpl.use("agg")
    from matplotlib import pyplot

    pyplot.figure(figsize=(1, 2), dpi=50)
    try:
        assert size(pyplot) == (50, 100)
    finally:
        pyplot.close()
    with pytest.raises(TypeError, match=r"^an object of type module cannot be sent"):
        payload_of(types.ModuleType("matplotlib.pyplot"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "CMYK", "F"])
def test_an_image_is_a_png(mode: str) -> None:
    assert size(Image.new(mode, (3, 2))) == (3, 2)


@pytest.mark.parametrize("picture", [Figure(), Figure().subplots(), Image.new("L", (1, 1))])
def test_a_picture_is_no_part_of_data(picture: object) -> None:
    with pytest.raises(TypeError, match=r"^a\[0\]: .* is a picture and cannot be inside data"):
        payload_of({"a": [picture]})


# --- Without the libraries


def test_no_library_is_imported_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _UNUSED], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


_UNUSED = """
import sys, datetime
from pushdemo.push.compute.payload import payload_of
payload_of({"at": datetime.date.today(), "x": {1, 2}})
for value in (object(), iter([])):
    try:
        payload_of([value])
    except TypeError:
        pass
libraries = {"numpy", "pandas", "matplotlib", "PIL", "sqlalchemy", "attrs", "pydantic"}
print(sorted(libraries & {name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("name", ["ndarray", "DataFrame", "Figure", "Row"])
def test_a_class_of_the_same_name_is_another(name: str) -> None:
    for module in ("numpy", "pandas", "matplotlib.figure", "sqlalchemy.engine"):
        value = type(name, (), {"__module__": module, "tolist": list, "dtype": None})()
        with pytest.raises(TypeError, match=f"^an object of type {module}.{name} cannot be sent"):
            payload_of(value)


@pytest.mark.parametrize("module", [None, types.ModuleType("numpy"), object()])
def test_a_library_that_is_not_itself_is_not_asked(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "pandas", "matplotlib.figure", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(TypeError, match=r"^an object of type object cannot be"):
        payload_of(object())
    assert payload_of(datetime.date(2009, 2, 4)) == Text(DAY)
    assert payload_of([Subclass(2009, 2, 4)]) == Data(f'["{DAY}"]')


class Subclass(datetime.date):
    pass
