"""What is known of a model before it is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from xft.config import load_config
from xft.errors import ModelError
from xft.models.adapters.lora import LoRA
from xft.models.adapters.saved_adapter import is_adapter, read_adapter_config
from xft.models.families import context_length
from xft.models.hub import resolve_path
from xft.models.memory_estimate import estimate_state_memory
from xft.models.model_source import resolve_model_source
from xft.run_config.recipe.method import Method
from xft.utils import paths
from xft.utils.presets import DEFAULT_METHOD, Preset, find_preset, preset_models, read_architecture

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z])")
_PATH = re.compile(r'path="([^"]+)"')
ADAPTER_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora")
"""Values of a saved adapter that the config of a run that continues it must have."""
BYTES = {"qlora": 0.8, "lora": 2.1, "full": 16.0}
"""Bytes per parameter between steps, where only the number of parameters is known."""


@dataclass(frozen=True)
class ModelFacts:
    """A model that a config names.

    Attributes:
        name: short name, for files.
        section: section ``model`` of a config.
        template: section ``template``.
        base: path or name of the weights; the base of an adapter.
        config: transformers config; ``None`` if it is not on this machine.
        adapter: ``ADAPTER_KEYS`` of the adapter that training continues from.
    """

    name: str
    section: dict[str, Any]
    template: str
    base: str
    config: PretrainedConfig | None = None
    adapter: dict[str, Any] | None = None

    @property
    def num_parameters(self) -> float | None:
        """Number of parameters, by the config or else by the name; ``None`` if neither tells."""
        if self.config is not None:
            return float(estimate_state_memory(self.config, LoRA(), False).num_parameters)
        sizes = _SIZE.findall(self.base.rpartition("/")[2].lower().replace("_", "-"))
        return max((float(size) * {"b": 1e9, "m": 1e6}[unit] for size, unit in sizes), default=None)

    def state_bytes(self, method: Method) -> float | None:
        """Return the memory between the steps of a method, in bytes; ``None`` if the size of the model is not known."""
        if self.config is not None:
            section = self.adapter_section(method)
            adapter = None if section is None else LoRA(r=section["r"])
            return estimate_state_memory(self.config, adapter, method.weights == "qlora").total
        count = self.num_parameters
        return None if count is None else count * BYTES[method.weights]

    def adapter_section(self, method: Method) -> Mapping[str, Any] | None:
        """Return the section ``adapter``: that of the method, or of the adapter that training continues from."""
        if method.adapter is None or self.adapter is None:
            return method.adapter
        return {"type": "lora", **self.adapter, "lora_dropout": 0.0}

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens; ``None`` if it is not known."""
        return None if self.config is None else context_length(self.config)


def inspect_model(name: str) -> ModelFacts:
    """Look a model up: a shipped model, a folder, an adapter, a run folder, or a name of the hub.

    Raises:
        ModelError: there is no such model.
    """
    shipped = preset_models()
    if name not in shipped:
        paths_of = {key: _PATH.search(file.read_text(encoding="utf-8")) for key, file in shipped.items()}
        name = next((key for key, match in paths_of.items() if match and match[1] == name), name)
    if name not in shipped and (preset := find_preset(name)) is not None:
        name = preset.model  # the name of a config, such as smollm2_lora
    if name in shipped:
        config = load_config(Preset(name, DEFAULT_METHOD).name)
        fields = read_architecture(shipped[name])
        section: dict[str, Any] = config["model"]
        architecture = CONFIG_MAPPING[fields.pop("model_type")](**fields) if fields else None
        template = config.get("template", "auto")
        base = section["path"]
        return ModelFacts(name, section, template, base, architecture or _local_config(base))
    source = resolve_model_source(name, "causal_lm")
    if not Path(source.base).expanduser().is_dir():
        resolve_path(source.base)
    saved: dict[str, Any] | None = None
    if source.adapter is not None and is_adapter(source.adapter):
        section = read_adapter_config(source.adapter).to_dict()
        saved = {key: section[key] for key in ADAPTER_KEYS if section.get(key)}
    short = re.sub(
        r"[^\w.-]+", "_", Path(name).expanduser().resolve().name if Path(name).exists() else name
    )
    section = {"type": "causal_lm", "path": name}
    return ModelFacts(
        short.rpartition("/")[2].lower(), section, "auto", source.base, _local_config(source.base), saved
    )


def _local_config(path: str) -> PretrainedConfig | None:
    """Read the config of a model that is on this machine; nothing is downloaded, and no code of the model runs."""
    if path.startswith(paths.SCHEME):
        path = str(paths.bundled_model())
    try:
        # Why: without trust_remote_code=False, transformers asks on the terminal whether to run code of the model.
        config: PretrainedConfig = AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ModelError):
        return None
    return config
