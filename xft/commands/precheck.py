"""Judge a config, its files and first rows before torch is imported: mistakes are reported within a second."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xft.config.snapshot import quick_check
from xft.data.config.auto_format import check_fit, choose_format, is_auto, sample_rows
from xft.data.formats.detect import format_override
from xft.data.formats.detect_rules import RULES
from xft.data.formats.tracked_row import ColumnUsage
from xft.data.sources import resolve_source
from xft.errors import ConfigError
from xft.registry import list_registered, resolve
from xft.utils import paths
from xft.utils.hub_access import check_access

Section = Mapping[str, Any]


def precheck(config: Section, where: str) -> None:
    """Check what can be checked without torch, and whether the hub gives what the config names.

    Without a snapshot of the signatures, all of it is checked when the run is set up.

    Args:
        config: plain data, as ``load_config`` returns it.
        where: name of the config in messages.

    Raises:
        XftError: a mistake.
    """
    if quick_check(config, where):
        check_files(config)
        check_hub(config)


def check_hub(config: Section) -> None:
    """Check that the hub gives the model and the datasets that a config names.

    Raises:
        ConfigError: one is missing, private or gated, or the hub cannot be reached.
    """
    path = config["model"].get("path")
    if isinstance(path, str) and not Path(path).expanduser().exists() and paths.is_hub_name(path):
        check_access(path, "model", "model.path")
    for data in _datasets(config["data"]):
        for name in _paths(data):
            hub = resolve_source(name).hub
            if hub is not None:
                check_access(hub, "dataset", "data.path")


def check_files(config: Section) -> Counter[str]:
    """Check that files exist, and that the format of the data fits its first rows.

    Args:
        config: a config with known keys and values of the right type.

    Returns:
        Columns that the formats do not read, with the number of the first rows that have them filled.

    Raises:
        XftError: a mistake.
    """
    check_model_path(config["model"])
    unread: Counter[str] = Counter()
    for data in _datasets(config["data"]):
        unread.update(_check_rows(data))
    questions = config.get("eval_prompts")
    if (
        isinstance(questions, str)
        and questions != paths.VAL_ROWS
        and not questions.startswith(paths.SCHEME)
    ):
        file = Path(questions).expanduser()
        if not file.is_file():
            problem = f"{questions}, which is no file"
            raise ConfigError(
                key="eval_prompts",
                got=problem,
                expected="a file of questions, or a list",
                fix=paths.similar_file(file),
            )
    return unread


def check_model_path(model: object) -> None:
    """Check that a model folder exists.

    Raises:
        ModelError: the path names neither a folder nor a model of the hub.
    """
    path = model.get("path") if isinstance(model, Mapping) else None
    if not isinstance(path, str) or "://" in path or Path(path).expanduser().is_dir():
        return
    if not paths.is_hub_name(path):
        raise paths.missing_model(path)


def _datasets(data: Section) -> Iterator[Section]:
    """Yield the datasets of a config. ``None`` under a name of a mixture removes a dataset."""
    parts = data["datasets"] if data["type"] == "mixture" else {"": data}
    yield from (part for part in parts.values() if part is not None)


def _paths(data: Section) -> list[str]:
    """Return the sources of a dataset; none of a dataset of the user's own without a key ``path``."""
    path = data.get("path", [])
    return [path] if isinstance(path, str) else list(path)


def _check_rows(data: Section) -> Mapping[str, int]:
    """Check that files exist, and that the format reads their first rows. Return the columns that it does not read."""
    val, kind = data.get("val_split", "auto"), data["type"]
    if kind not in RULES:  # a dataset of the user's own
        return {}
    sources = [resolve_source(name) for name in _paths(data)]
    if isinstance(val, str) and val != "auto":
        sources.append(resolve_source(val))
    local = [source for source in sources if source.hub is None]
    spec = data.get("format", "auto")
    name, arguments = (spec, {}) if isinstance(spec, str) else (spec["type"], dict(spec))
    arguments.pop("type", None)
    if not local or name not in list_registered("format"):
        return {}
    usage = ColumnUsage()
    if data.get("group_by") is not None:
        usage.read.add(data["group_by"])
    format, on_invalid = partial(resolve("format", name), **arguments), data.get("on_invalid", "error")
    if is_auto(format):
        choose_format(local, kind, on_invalid=on_invalid, usage=usage)
    else:
        override = format_override({"type": name, **arguments})
        for source in local:
            check_fit(source, sample_rows(source), kind, format, override, on_invalid, usage)
    # Rewards get all columns of prompts.
    return usage.unread() if kind != "prompt" else {}
