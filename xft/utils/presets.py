"""Configs that consist of a shipped model and a shipped method: ``qwen3_8b_orpo``.

A model is a file of ``configs/_base_/models``, a method one of ``configs/_base_/methods``.
"""

import ast
import runpy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xft.errors import ConfigError, did_you_mean
from xft.utils import paths

DEFAULT_METHOD = "qlora"
PYTHON_FILE = "a Python config file (.py)"
START = "smollm2_lora"
"""Shipped config for a user who has none: it trains everywhere, without the hub."""
_MODEL_OPTIONS = {"full": 'model.update(dtype="float32")\n'}
"""Lines that a method adds to change the model, whose file it does not import."""


@dataclass(frozen=True)
class Preset:
    """A shipped model and a method.

    Attributes:
        model: name of the model.
        method: name of the method.
    """

    model: str
    method: str

    @property
    def name(self) -> str:
        """Name that stands for the config on the command line, and names the run folder."""
        return f"{self.model}_{self.method}"

    @property
    def docstring(self) -> str:
        """Docstrings of the model and the method."""
        return " ".join(read_docstring(_bases(kind)[name]) for kind, name in self._parts)

    @property
    def source(self) -> str:
        """Text of the config file, next to a folder ``_base_``."""
        lines = [f"    from ._base_.{kind}.{name} import *" for kind, name in self._parts]
        return (
            f'"""{self.docstring}"""\n\nfrom mmengine.config import read_base\n\nwith read_base():\n'
            "    from ._base_.runtime import *\n"
            + "\n".join(lines)
            + "\n\n"
            + _MODEL_OPTIONS.get(self.method, "")
        )

    @property
    def _parts(self) -> tuple[tuple[str, str], ...]:
        return ("models", self.model), ("methods", self.method)

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Write the config file into a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="xft-") as folder:
            (Path(folder) / "_base_").symlink_to(paths.configs() / "_base_")
            file = Path(folder) / f"{self.name}.py"
            file.write_text(self.source, encoding="utf-8")
            yield file


def read_docstring(file: Path) -> str:
    """Return the docstring of a config file on one line; empty if it has none."""
    return " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split())


def preset_models() -> dict[str, Path]:
    """Return name to file of the shipped models."""
    return _bases("models")


def preset_methods() -> dict[str, Path]:
    """Return name to file of the methods."""
    return _bases("methods")


def _bases(kind: str) -> dict[str, Path]:
    return {file.stem: file for file in sorted((paths.configs() / "_base_" / kind).glob("*.py"))}


def runtime_text() -> str:
    """Return the lines of the hooks, loggers and other keys that every config has, with their comments."""
    text = _runtime_file().read_text(encoding="utf-8")
    first = ast.parse(text).body[1].lineno  # after the docstring
    return "".join(text.splitlines(keepends=True)[first - 1 :])


def runtime_values() -> dict[str, Any]:
    """Return the hooks, loggers and other keys that every config has."""
    values = runpy.run_path(str(_runtime_file()))
    return {key: value for key, value in values.items() if not key.startswith("_")}


def _runtime_file() -> Path:
    return paths.configs() / "_base_" / "runtime.py"


def find_preset(name: str) -> Preset | None:
    """Return the preset that a name stands for, ``MODEL`` or ``MODEL_METHOD``; ``None`` for any other name.

    Args:
        name: of the command line. A path with a folder or the ending ``.py`` is no preset.
    """
    models = preset_models()
    if name in models:
        return Preset(name, DEFAULT_METHOD)
    model, _, method = name.rpartition("_")
    return Preset(model, method) if model in models and method in preset_methods() else None


def find_config(file: Path) -> Path | Preset:
    """Return the config file that a path names, or a shipped config or a preset that its name stands for.

    Raises:
        ConfigError: there is none. The message names the nearest file, shipped config or preset.
    """
    if file.is_file():
        return file
    if not file.exists() and file.suffix == "" and len(file.parts) == 1:
        shipped = paths.configs() / f"{file}.py"
        if shipped.is_file():
            return shipped
        if (preset := find_preset(file.name)) is not None:
            return preset
    raise _missing_config(file)


def _missing_config(file: Path) -> ConfigError:
    name = file.stem
    if file.is_dir():
        message = f"config: {str(file)!r} is a folder; expected {PYTHON_FILE}"
        return ConfigError(message, key="config", got=str(file), expected=PYTHON_FILE)
    if (paths.configs() / f"{name}.py").is_file() or find_preset(name) is not None:
        fix = f"{name}, without a folder or an ending, names the shipped config; `xft copy {name}` writes it here"
    else:
        presets = [f"{model}_{method}" for model in preset_models() for method in preset_methods()]
        shipped = [path.stem for path in paths.configs().glob("*.py")]
        fix = paths.similar_file(file) or did_you_mean(
            name.lower().replace("-", "_"), [*shipped, *preset_models(), *presets]
        )
        if not fix.startswith("did") and file.suffix in ("", ".py"):
            fix = f"`xft copy {START} {file.with_suffix('.py').name}` writes one to begin with"
        near = f"{fix} " if fix.startswith("did") else f"{fix}; " if fix.startswith("`") else ""
        fix = f"{near}`xft list configs` shows the shipped ones"
    return ConfigError(f"config: no file {str(file)!r}; {fix}", key="config", got=str(file), fix=fix)


def name_with_method(name: str, method: str) -> str:
    """Return the name of the preset of a model and a method.

    Raises:
        ConfigError: the model or the method is not shipped.
    """
    for key, value, known in (("--method", method, preset_methods()), ("CONFIG", name, preset_models())):
        if value not in known:
            expected = "a method" if key == "--method" else "a shipped model, since --method is given"
            raise ConfigError(key=key, got=value, expected=expected, fix=did_you_mean(value, known))
    return Preset(name, method).name


def read_architecture(file: Path) -> dict[str, Any]:
    """Return the fields of the transformers config of a shipped model, ``model_type`` included.

    Only values that the class does not have by default are listed. The bundled model has none.
    """
    return dict(runpy.run_path(str(file)).get("_architecture", {}))
