"""Choose the format of rows: their columns and turns decide, for the kind of data that the method trains on.

Columns that few rows have filled decide nothing. Where several formats fit the columns, they are tried on the rows. If
several fit these too, or none does, the error shows the columns and the overrides to choose from: a wrong guess would train
on the wrong texts.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

from xft.data.formats.detect_rules import CONTEXT, RULES, SYSTEM, OtherRowsError, Spec
from xft.data.formats.row_shape import MIN_FRACTION, RowShape
from xft.data.formats.trial import try_format
from xft.errors import DataError
from xft.registry import resolve
from xft.types import Row

OPTIONAL: dict[str, Sequence[str]] = {"system": SYSTEM, "input": CONTEXT}
"""Argument of a format to names of columns that it may read besides its main columns."""


def detect_format(
    rows: Sequence[Row], kind: str, where: str, places: Sequence[object] | None = None
) -> Spec:
    """Return the format of rows: the one that fits most of them.

    Args:
        rows: rows of a source.
        kind: ``data.type``: instruction, text, preference, unpaired_preference or prompt.
        where: name of the source.
        places: places of the rows, such as file and line, for errors.

    Raises:
        DataError: no format fits, or several, or the rows are of another kind.
    """
    shape = RowShape.of(rows)
    places = places or [f"row {number}" for number in range(1, len(rows) + 1)]
    try:
        candidates = RULES[kind](shape, rows) or RULES[kind](shape.with_rare(), rows)
    except OtherRowsError as error:
        rows_kind, fix = error.args
        problem = f"{where} has {rows_kind}, which data.type={kind!r} does not train on"
        raise _error(problem, shape, fix) from error
    compared = candidates if len(candidates) > 1 else []
    problems = {format_override(spec): _problem(spec, rows, kind, places) for spec in compared}
    fitting = [spec for spec in candidates if not problems.get(format_override(spec))]
    if len(fitting) == 1:
        return _with_optional_columns(fitting[0], shape, rows, kind)
    if fitting:
        choices = " or ".join(map(format_override, fitting))
        raise _error(f"{where} can be read in {len(fitting)} ways", shape, f"choose {choices}")
    tried = "".join(f"; {override} was tried: {problem}" for override, problem in problems.items())
    raise _error(f"no format fits {where}{tried}", shape, _suggest(shape, kind))


def _with_optional_columns(spec: Spec, shape: RowShape, rows: Sequence[Row], kind: str) -> Spec:
    """Add the columns of a system text and a context, if the format has an argument for them and reads as many rows."""
    parameters = inspect.signature(resolve("format", spec["type"])).parameters
    extended = dict(spec)
    for name, names in OPTIONAL.items():
        default = parameters[name].default if name in parameters else None
        if not default or name in spec or shape.with_rare().has(default):
            continue
        columns = [column for column in shape.named(names, rare=True) if column not in spec.values()]
        extended |= {name: columns[0]} if columns else {}
    if extended == spec:
        return spec
    before, after = (try_format(bound_format(one), rows, kind).misfits for one in (spec, extended))
    return spec if len(after) > len(before) else extended


def bound_format(spec: Spec) -> Callable[[Row], object]:
    """Return the function of a format, with its arguments."""
    arguments = {key: value for key, value in spec.items() if key != "type"}
    return partial(resolve("format", spec["type"]), **arguments)


def format_override(spec: Spec) -> str:
    """Return the override of a config that sets a format: ``data.format=alpaca``."""
    name, *arguments = [f"{key}={value!r}" for key, value in spec.items()]
    call = f"dict({name}, {', '.join(arguments)})" if arguments else spec["type"]
    return f'"data.format={call}"' if arguments else f"data.format={call}"


def _error(problem: str, shape: RowShape, fix: str) -> DataError:
    message = f"data.format: {problem}. Columns: {shape}. {fix[:1].upper()}{fix[1:]}"
    return DataError(message, key="data.format", got=list(shape.kinds), expected="a format", fix=fix)


def _problem(spec: Spec, rows: Sequence[Row], kind: str, places: Sequence[object]) -> str:
    """Try a format on rows. Return why it does not fit most of them; empty if it does."""
    misfits = try_format(bound_format(spec), rows, kind).misfits
    if len(misfits) <= (1 - MIN_FRACTION) * len(rows):
        return ""
    index, error = next(iter(misfits.items()))
    return f"{places[index]}: {error} ({len(misfits)} of {len(rows)} rows do not fit)"


def _suggest(shape: RowShape, kind: str) -> str:
    """Return an example of an override for columns that no rule knows."""
    texts = [repr(name) for name in shape.of_kind("text", "flag", "number")]
    needed = {
        "instruction": ("user", "assistant"),
        "preference": ("user", "chosen", "rejected"),
        "unpaired_preference": ("user", "assistant", "label"),
        "text": ("text",),
    }.get(kind, ("prompt",))
    type_ = "prompt" if needed == ("prompt",) else "columns"
    names = [*texts, *["'COLUMN'"] * len(needed)]
    arguments = ", ".join(f"{key}={name}" for key, name in zip(needed, names, strict=False))
    pairs = "; for preference pairs, --method orpo" if kind == "instruction" and len(texts) > 2 else ""
    return (
        f"name the columns, for instance \"data.format=dict(type='{type_}', {arguments})\"{pairs}; "
        "`xft list formats` shows all formats with an example row"
    )
