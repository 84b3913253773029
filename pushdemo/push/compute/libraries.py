"""Types of numpy, pandas, SQLAlchemy, matplotlib and Pillow, where they have been imported.

None of them is imported here. An object of a library's class cannot be there before the library is
in `sys.modules`, and its class is looked up there, so a class of the same name is not mistaken for
it.
"""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar

from pushdemo.push.compute.shapes import Pairs

Step = Callable[[Any], object]
Draw = Callable[[Any], bytes]
_How = TypeVar("_How", Step, Draw)


def step(value: object) -> Step | None:
    """What makes `value` simpler, if it is numpy's, pandas' or SQLAlchemy's."""
    pandas = sys.modules.get("pandas")
    # They may not be there yet: another thread may be importing it.
    if any(value is getattr(pandas, name, _nothing) for name in ("NaT", "NA")):
        return _nothing
    return _of(_STEPS, value)


def picture(value: object) -> Draw | None:
    """What makes a PNG of `value`, if it is matplotlib's or Pillow's: a figure, axes, pyplot itself
    (its current figure), an image."""
    if type(value) is types.ModuleType:
        is_pyplot = value is sys.modules.get("matplotlib.pyplot")
        return (lambda pyplot: _figure(pyplot.gcf())) if is_pyplot else None
    return _of(_PICTURES, value)


def _of(known: list[tuple[str, str, _How]], value: object) -> _How | None:
    kind = type(value)
    for module, name, how in known:
        found = sys.modules.get(module)
        if found is None:
            continue
        base = getattr(found, name, None)
        if isinstance(base, type) and issubclass(kind, base):
            return how
    return None


# --- numpy


def _scalar(value: Any) -> object:
    numpy = sys.modules["numpy"]
    match value.dtype.kind:
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case "f":
            return float(_widened(value))
        case "M":
            return None if numpy.isnat(value) else str(numpy.datetime_as_string(value))
        case "m":
            return None if numpy.isnat(value) else float(value / numpy.timedelta64(1, "s"))
        case "V" if value.dtype.names:
            return _record(value)
    return value.item()  # text is known; what is not, complex for one, is refused by its name


def _array(value: Any) -> object:
    if value.ndim == 0 and value.dtype.names:
        return _record(value)
    if value.dtype.kind not in "MmV":
        return _widened(value).tolist()  # with None for what a mask hides
    # tolist() makes integers of nanoseconds, and tuples of records.
    if value is sys.modules["numpy"].ma.masked:
        return None
    return value[()] if value.ndim == 0 else list(value)


def _widened(value: Any) -> Any:
    """The doubles that are written like these numbers. A float32 of 21.3 is 21.299999237060547 as a
    double, and nobody measured that."""
    is_narrow = value.dtype.kind == "f" and value.dtype.itemsize < 8
    return value.astype("U").astype("d") if is_narrow else value


def _record(value: Any) -> Pairs:
    return Pairs((name, value[name]) for name in value.dtype.names)


# --- pandas


def _frame(value: Any) -> object:
    """A mapping for each row. The index is a column, unless it does no more than count the rows."""
    names = value.columns.tolist()
    columns = [_column(value.iloc[:, number]) for number in range(len(names))]
    if not _counts(value.index):
        levels = value.index.nlevels
        for level, name in reversed(list(enumerate(value.index.names))):
            default = "index" if levels == 1 else f"level_{level}"
            names.insert(0, default if name is None else name)
            columns.insert(0, _column(value.index.get_level_values(level)))
    return [Pairs(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _series(value: Any) -> object:
    """A list, or a mapping where the index does more than count."""
    if _counts(value.index):
        return _column(value)
    return Pairs(zip(_column(value.index), _column(value), strict=True))


def _column(value: Any) -> list[object]:
    """The members of a series, an index or an array of pandas'."""
    dtype = value.dtype
    if dtype.kind == "f" and dtype.itemsize < 8:
        narrow = value.to_numpy(dtype=f"f{dtype.itemsize}", na_value=float("nan"))
        return _widened(narrow).tolist()  # type: ignore[no-any-return]
    return value.tolist()  # type: ignore[no-any-return]


def _counts(index: Any) -> bool:
    is_range = type(index) is sys.modules["pandas"].RangeIndex
    return is_range and index.start == 0 and index.step == 1 and index.name is None


def _text(value: Any) -> str:
    return str(value)


def _nothing(value: object) -> None:  # noqa: ARG001
    return None


_STEPS: list[tuple[str, str, Step]] = [
    ("pandas", "Timestamp", lambda value: value.isoformat()),
    ("numpy", "generic", _scalar),
    ("numpy", "ndarray", _array),
    ("pandas", "DataFrame", _frame),
    ("pandas", "Series", _series),
    ("pandas", "Index", _column),
    ("pandas", "Timedelta", lambda value: value.total_seconds()),
    ("pandas", "Interval", _text),
    ("pandas", "Period", _text),
    ("pandas.api.extensions", "ExtensionArray", _column),
    ("sqlalchemy.engine", "Row", lambda value: Pairs(zip(value._fields, value, strict=True))),
]


# --- Pictures


def _figure(value: Any) -> bytes:
    """The figure that an artist is part of."""
    # A subfigure's figure may be its parent; its canvas is the whole figure's.
    figure = value.figure.canvas.figure
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _image(value: Any) -> bytes:
    # The modes that every version of Pillow writes as PNG; CMYK is not among them.
    if value.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):
        value = value.convert("I;16" if value.mode == "I" else "RGB")
    png = io.BytesIO()
    value.save(png, "PNG")
    return png.getvalue()


_PICTURES: list[tuple[str, str, Draw]] = [
    ("matplotlib.figure", "FigureBase", _figure),
    ("matplotlib.axes", "Axes", _figure),
    ("PIL.Image", "Image", _image),
]
