"""LoRA adapters: their config, and how they are attached to a model."""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

from annotated_types import Interval
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from xft.compat.peft import attaching_in, without_name_conversion
from xft.errors import ConfigError
from xft.models.adapters.full_modules import upcast_full_modules
from xft.models.adapters.fused_lora import fused_linear_class
from xft.models.adapters.layer_names import check_layer_names, is_match, trainable_tokens
from xft.models.adapters.lora_init import init_lora_from_weights
from xft.models.adapters.parameter_lora import make_config_portable, parameter_layer
from xft.models.adapters.targets import Targets, find_targets
from xft.models.expert_weights import plain_experts
from xft.models.quantization import peft_without_bnb_import
from xft.models.reward_head import is_reward_model, upcast_head
from xft.models.sharded_reading import full_weights_of, gather_modules
from xft.registry import register
from xft.types.ranges import Count, Positive, Probability


@register("adapter", "lora")
class LoRA:
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): ``W + alpha / r · B A``.

    On a base in NF4 this is QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314). The
    base keeps the dtype that it was loaded in; all trainable weights are fp32. The keys are those of ``peft.LoraConfig``.

    Args:
        r: rank of A and B.
        lora_alpha: numerator of the scaling factor ``lora_alpha / r`` of the update.
        lora_dropout: dropout probability on the input of A, in training; fused experts have no dropout.
        target_modules: names of the adapted layers, with or without the beginning of their path; a regular
            expression of full paths; or one of ``all-linear``, ``attention``, ``experts``, ``all``. ``all-linear``
            means every linear layer except the head, those of state-space modules whose kernels take the weight alone,
            and in a mixture-of-experts model routers and routed experts; ``attention`` its layers in attention and its recurrent replacements; ``experts`` the routed
            experts; ``all`` is ``all-linear`` and ``experts``. A router is trained if it is named here, or in
            ``modules_to_save``.
        modules_to_save: layers that are fully trained and saved with the adapter. The head of a reward model
            is always included.
        use_rslora: scale by ``lora_alpha / sqrt(r)``, which keeps high ranks stable
            (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
        use_dora: train magnitude and direction of each weight row separately (Liu et al. 2024,
            https://arxiv.org/abs/2402.09353). peft computes these layers, without ``xft.kernels``.
        init_lora_weights: initial values of A and B. ``default``: A random, B zero. ``pissa``: the ``r`` largest
            singular values of the weight and their vectors (Meng et al. 2024, https://arxiv.org/abs/2404.02948).
            ``pissa_niter_N``: the same by N iterations of a randomized SVD, much faster (the paper uses 16).
            ``olora``: the leading columns and rows of the QR decomposition (Büyükakyüz 2024,
            https://arxiv.org/abs/2406.01775). The base stays unchanged and the initial product is subtracted,
            which doubles the rank of the saved adapter (:mod:`xft.models.adapters.lora_init`).
        loraplus_lr_ratio: learning rate of B divided by the learning rate of all other parameters (LoRA+,
            Hayou et al. 2024, https://arxiv.org/abs/2402.12354, suggests 16). Other vectors, such as those of
            DoRA, use the rate of B, as in peft; embedding adapters use the rate of A.

    Raises:
        ConfigError: a value is out of range, or ``lora_dropout`` is combined with ``pissa`` or ``olora``.
    """

    def __init__(
        self,
        r: Annotated[int, Interval(ge=1, le=65_536)] = 16,
        lora_alpha: Count = 32,
        lora_dropout: Probability = 0.0,
        target_modules: str | list[str] = "all-linear",
        modules_to_save: list[str] | None = None,
        use_rslora: bool = False,
        use_dora: bool = False,
        init_lora_weights: str = "default",
        loraplus_lr_ratio: Positive = 1.0,
    ) -> None:
        if r < 1:
            raise ConfigError(key="adapter.r", got=r, expected="at least 1")
        if not 0 <= lora_dropout < 1:
            raise ConfigError(
                key="adapter.lora_dropout", got=lora_dropout, expected="at least 0 and less than 1"
            )
        if not re.fullmatch(r"default|olora|pissa(_niter_[1-9][0-9]*)?", init_lora_weights):
            raise ConfigError(
                key="adapter.init_lora_weights",
                got=init_lora_weights,
                expected="'default', 'pissa', 'pissa_niter_16' (or another number) or 'olora'",
            )
        if init_lora_weights != "default" and lora_dropout:
            raise ConfigError(
                key="adapter.lora_dropout",
                got=lora_dropout,
                expected=f"0 with init_lora_weights={init_lora_weights!r}, as A and B hold principal components",
                fix="set adapter.lora_dropout=0",
            )
        if loraplus_lr_ratio <= 0:
            raise ConfigError(
                key="adapter.loraplus_lr_ratio",
                got=loraplus_lr_ratio,
                expected="more than 0 (1 is plain LoRA)",
            )
        self.r = r
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules
        self.modules_to_save = modules_to_save
        self.use_rslora = use_rslora
        self.use_dora = use_dora
        self.init_lora_weights = init_lora_weights
        self.loraplus_lr_ratio = loraplus_lr_ratio

    @property
    def has_frozen_half(self) -> bool:
        """Return whether half of A and B stays frozen (PiSSA and OLoRA)."""
        return self.init_lora_weights != "default"

    @property
    def _doubled_alpha(self) -> float:
        return self.lora_alpha * (math.sqrt(2) if self.use_rslora else 2)

    def apply(
        self,
        model: PreTrainedModel,
        new_tokens: list[int],
        fused: bool = True,
        check: Callable[[LoraConfig], None] = lambda _: None,
    ) -> PeftModel:
        """Attach a new adapter, which does not change the output of the model yet.

        Args:
            model: the base; modified in place and frozen.
            new_tokens: ids of new embeddings, which are trained with the adapter.
            fused: train each plain layer as one operation (:mod:`xft.models.adapters.fused_lora`).
            check: raises for a config of peft that cannot be used.

        Raises:
            ConfigError: a name in ``target_modules`` or ``modules_to_save`` matches no layer, or a layer does not
                support ``init_lora_weights``.
        """
        upcast_head(model)
        check_layer_names(model, self.target_modules, self.modules_to_save or [])
        targets = find_targets(model, self.target_modules)
        self._check_parameters(targets)
        config = self._peft_config(model, targets, new_tokens)
        check(config)
        if fused:
            config._register_custom_module({nn.Linear: fused_linear_class})
        if targets.parameters:
            config._register_custom_module({nn.Module: parameter_layer})
        gather_modules(model, self._full_modules(model, new_tokens))
        in_full = attaching_in(full_weights_of) if self.use_dora else nullcontext()
        try:
            with peft_without_bnb_import(), without_name_conversion(), plain_experts(model), in_full:
                adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"adapter: {error}", key="adapter") from error
        if self.has_frozen_half:
            init_lora_from_weights(adapted, self.init_lora_weights, self.r)
        make_config_portable(adapted)
        upcast_full_modules(adapted)
        return adapted

    def _peft_config(self, model: PreTrainedModel, targets: Targets, new_tokens: list[int]) -> LoraConfig:
        """Return the config of peft for the layers of a model."""
        # With twice the rank, the scaling alpha / r or alpha / sqrt(r) must stay the same.
        rank, alpha = (
            (2 * self.r, self._doubled_alpha) if self.has_frozen_half else (self.r, self.lora_alpha)
        )
        return LoraConfig(
            # With SEQ_CLS, peft trains and saves the head too, and appends its name to the list.
            task_type="SEQ_CLS" if is_reward_model(model) else "CAUSAL_LM",
            r=rank,
            lora_alpha=alpha,
            lora_dropout=self.lora_dropout,
            target_modules=targets.modules,
            target_parameters=targets.parameters or None,
            modules_to_save=None if self.modules_to_save is None else list(self.modules_to_save),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            trainable_token_indices=trainable_tokens(
                model, new_tokens, targets.modules, self.modules_to_save or []
            ),
        )

    def _full_modules(self, model: PreTrainedModel, new_tokens: list[int]) -> list[nn.Module]:
        """Return the modules that the adapter copies: those that are fully trained, and the embedding of new tokens."""
        entries = self.modules_to_save or []
        modules = [
            module
            for name, module in model.named_modules()
            if any(is_match(entry, name) for entry in entries)
        ]
        return [*modules, model.get_input_embeddings()] if new_tokens else modules

    def _check_parameters(self, targets: Targets) -> None:
        """Check that the options can be combined with LoRA on parameters that are not layers.

        Raises:
            ConfigError: they cannot.
        """
        if not targets.parameters or not (self.use_dora or self.has_frozen_half):
            return
        name = "use_dora" if self.use_dora else "init_lora_weights"
        raise ConfigError(
            key=f"adapter.{name}",
            got=f"{getattr(self, name)!r} with LoRA on {targets.parameters[0]}",
            expected="plain LoRA on fused experts and routers",
            fix=f"set adapter.target_modules='all-linear', or remove adapter.{name}",
        )


def is_identity_adapter(model: object) -> bool:
    """Return whether an adapter adds an exact zero to every layer, as a new adapter with B = 0 does."""
    if not isinstance(model, PeftModel):
        return False
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    b_weights = [
        b for layer in layers for b in (*layer.lora_B.parameters(), *layer.lora_embedding_B.values())
    ]
    plain = not any(layer.lora_variant or any(layer.lora_bias.values()) for layer in layers)
    return plain and bool(b_weights) and not any(bool(b.any()) for b in b_weights)
