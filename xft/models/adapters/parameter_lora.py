"""LoRA on parameters that are no layers: fused experts and routers (``target_parameters`` of peft).

peft computes ``W + s B A`` for all experts of a layer in each forward pass. Dropout on the input of A is not possible in
that form, and peft refuses to load an adapter whose config has both: the saved config has ``lora_dropout=0``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy

from peft import LoraConfig, PeftModel
from peft.tuners.lora import layer as peft_layer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xft.compat.peft import names_of_version_4
from xft.models.adapters.layer_names import is_match
from xft.models.model_options import transformers_config
from xft.models.param_shapes import quant_state

_WEIGHT = ".weight"


class ParamWrapper(peft_layer.ParamWrapper):  # peft compares the name of the class
    """LoRA on the fused weight of experts, with the weights, names and results of peft.

    Also for NF4 weights, from which peft cannot remove the update after the forward pass. The weight is computed once
    in a forward pass, where peft computes it twice.
    """

    @contextmanager
    def _activate_lora(self, active_adapters: Sequence[str]) -> Iterator[None]:
        names = [name for name in active_adapters if name in self.lora_A]
        base, key = self.get_base_layer(), self.parameter_name
        if len(names) != 1 or self.num_experts == 1:
            with super()._activate_lora(active_adapters):
                yield
            return
        is_quantized = parametrize.is_parametrized(base, key)
        dtype = (
            quant_state(base.parametrizations[key].original).dtype
            if is_quantized
            else self.get_param().dtype
        )
        a, b = (factor.to(dtype) for factor in expert_factors(self, names[0]))
        factors = (b, a) if self._did_swap_in_out_features else (a.mT, b.mT)
        update = peft_layer._LoraFactorsProxy(*factors, self.scaling[names[0]])
        if is_quantized:
            base.parametrizations[key].append(update)
        else:
            trained = self.get_param().requires_grad
            parametrize.register_parametrization(base, key, update, unsafe=True)
            base.parametrizations[key].original.requires_grad_(trained)
        try:
            with parametrize.cached():
                yield
        finally:
            if is_quantized:
                del base.parametrizations[key][-1]
            else:
                self._remove_parametrizations()

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the update to the weight.

        Raises:
            ValueError: the weight is quantized.
        """
        if parametrize.is_parametrized(self.get_base_layer(), self.parameter_name):
            raise ValueError(
                f"{self.parameter_name} is quantized; dequantize the base before an adapter is merged"
            )
        super().merge(safe_merge, adapter_names)


def expert_factors(layer: peft_layer.ParamWrapper, adapter: str) -> tuple[Tensor, Tensor]:
    """Return A ``(experts, r, in)`` and B ``(experts, out, r)`` of fused experts."""
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return (
        a.unflatten(0, (layer.num_experts, -1)),
        b.unflatten(1, (-1, layer.num_experts)).permute(2, 0, 1),
    )


def parameter_layer(
    target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: object
) -> nn.Module | None:
    """Build the adapter layer of a parameter, without dropout; ``None`` lets peft build the layer of a module."""
    if kwargs.get("parameter_name") is None:
        return None
    config = copy(config)
    config.lora_dropout = 0.0
    return ParamWrapper(target, adapter_name, config=config, **kwargs)


def make_config_portable(model: PeftModel) -> None:
    """Change the config of a new adapter so that any peft attaches it to the same layers.

    In some families peft replaces names such as ``gate_proj`` by fused experts, although shared experts and dense layers
    still have layers of these names. Their weights are named in ``target_parameters`` instead, which peft takes as they
    are. The saved weights have the same names in both forms.
    """
    config = model.peft_config["default"]
    if not isinstance(config, LoraConfig) or isinstance(config.target_modules, str):
        return
    renamed = names_of_version_4(str(transformers_config(model).model_type))
    names = set(config.target_modules or [])
    lost = {name for name in names if name.rpartition(".")[2] in renamed}
    if lost:
        config.target_modules = sorted(names - lost)
        config.target_parameters = sorted(
            {*(config.target_parameters or []), *(f"{name}{_WEIGHT}" for name in lost)}
        )
    if config.target_parameters:
        config.lora_dropout = 0.0


def restore_layers(config: LoraConfig, model: nn.Module) -> bool:
    """Undo :func:`make_config_portable` for a saved config, since layers compute faster than their weights.

    Returns:
        Whether the names in the config are those of version 5 of transformers, which must not be replaced.
    """
    if not config.target_parameters:
        return False
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    moved = {
        entry
        for entry in config.target_parameters
        if entry.endswith(_WEIGHT) and any(is_match(entry.removesuffix(_WEIGHT), name) for name in layers)
    }
    config.target_parameters = sorted(set(config.target_parameters) - moved)
    config.target_modules = sorted(
        {*(config.target_modules or []), *(name.removesuffix(_WEIGHT) for name in moved)}
    )
    return True
