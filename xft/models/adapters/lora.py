"""Adapters: the few weights that are trained in place of all of them."""

import math
import re
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from xft.errors import ConfigError, ModelError, nearest
from xft.models.adapters.fused_lora import fused_layer
from xft.models.adapters.lora_init import begin_with_weights
from xft.models.quantization import without_bitsandbytes
from xft.models.reward_head import Kind, is_reward_model, widen_head
from xft.registry import register


@register("adapter", "lora")
class LoRA:
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): ``W + alpha / r · B A``.

    On a base in NF4 this is QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314). The
    base stays in the type that it was loaded in; A and B are fp32.

    Args:
        r: rank of A and B.
        alpha: the update is scaled by ``alpha / r``.
        dropout: on the input of A, in training.
        target_modules: names of the layers, or ``all-linear``: every linear layer but the head.
        modules_to_save: layers trained and saved whole beside the adapter. The head of a reward model
            always is one.
        rslora: scale by ``alpha / sqrt(r)``, so that a high rank learns as fast as a low one
            (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
        dora: train the length of each row of the weight apart from its direction (Liu et al. 2024,
            https://arxiv.org/abs/2402.09353). Such layers are computed by peft, without ``xft.kernels``.
        init: what A and B begin as. ``lora``: A at random, B zero. ``pissa``: the ``r`` largest singular values
            of the weight with their vectors (Meng et al. 2024, https://arxiv.org/abs/2404.02948);
            ``pissa_niter_N`` finds nearly the same with N iterations of a randomised decomposition, in a
            fraction of the time (16 is the paper's choice). ``olora``: the first columns and rows of its QR
            decomposition (Büyükakyüz 2024, https://arxiv.org/abs/2406.01775). The base stays as it is, and
            what the adapter begins with is taken off again, so the adapter that is saved has twice the rank
            (:mod:`xft.models.adapters.lora_init`).
        lr_ratio: LoRA+: how many times as high as the learning rate of everything else that of B is (Hayou et al.
            2024, https://arxiv.org/abs/2402.12354, where 16 is a good start). Vectors beside A and B, such as
            those of DoRA, learn at the rate of B, as in peft; adapters of embeddings at that of A.
    """

    def __init__(
        self,
        r: int = 16,
        alpha: int = 32,
        dropout: float = 0.0,
        target_modules: str | list[str] = "all-linear",
        modules_to_save: list[str] | None = None,
        rslora: bool = False,
        dora: bool = False,
        init: str = "lora",
        lr_ratio: float = 1.0,
    ) -> None:
        if r < 1:
            raise ConfigError(f"adapter.r: got {r}, expected at least 1")
        if not 0 <= dropout < 1:
            raise ConfigError(f"adapter.dropout: got {dropout}, expected 0 or more and less than 1")
        if not re.fullmatch(r"lora|olora|pissa(_niter_[1-9][0-9]*)?", init):
            raise ConfigError(
                f"adapter.init: got {init!r}, expected 'lora', 'pissa', 'pissa_niter_16' (or another number) or 'olora'"
            )
        if init != "lora" and dropout:
            raise ConfigError(
                f"adapter.dropout: got {dropout}, but with init={init!r} A and B hold the main part of the weights, which "
                "would be dropped with the input; set dropout=0"
            )
        if lr_ratio <= 0:
            raise ConfigError(f"adapter.lr_ratio: got {lr_ratio}, expected more than 0 (1 is plain LoRA)")
        self.r = r
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.modules_to_save = modules_to_save
        self.rslora = rslora
        self.dora = dora
        self.init = init
        self.lr_ratio = lr_ratio

    @property
    def splits(self) -> bool:
        """Whether it begins with a part of the weights."""
        return self.init != "lora"

    @property
    def _alpha_of_both(self) -> float:
        return self.alpha * (math.sqrt(2) if self.rslora else 2)

    def apply(self, model: PreTrainedModel, new_tokens: list[int], fused: bool = True) -> PeftModel:
        """Put an adapter on a model, freshly initialised as ``init`` says, so that it changes nothing yet.

        Args:
            model: the base; it is changed in place and frozen.
            new_tokens: ids whose embeddings are new, and trained with the adapter.
            fused: train each layer as one operation, where it is a plain one (:mod:`xft.models.adapters.fused_lora`).

        Raises:
            ConfigError: a name in ``target_modules`` or ``modules_to_save`` fits no layer, or a layer cannot
                begin as ``init`` says.
        """
        widen_head(model)
        # The scaling, alpha / r or alpha / sqrt(r), stays what it is with twice the rank.
        rank, alpha = (2 * self.r, self._alpha_of_both) if self.splits else (self.r, self.alpha)
        config = LoraConfig(
            # With SEQ_CLS, peft trains and saves the head too; it adds its name to the list.
            task_type="SEQ_CLS" if is_reward_model(model) else "CAUSAL_LM",
            r=rank,
            lora_alpha=alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            modules_to_save=None if self.modules_to_save is None else list(self.modules_to_save),
            use_rslora=self.rslora,
            use_dora=self.dora,
            trainable_token_indices=new_tokens or None,
        )
        if fused:
            config._register_custom_module({nn.Linear: fused_layer})
        layers = {name.rpartition(".")[2] for name, _ in model.named_modules() if name}
        asked = [] if isinstance(self.target_modules, str) else self.target_modules
        for name in [*asked, *(self.modules_to_save or [])]:
            if name.rpartition(".")[2] not in layers:
                raise ConfigError(
                    f"adapter: no layer of the model is called {name!r}; {nearest(name, layers)}"
                )
        try:
            with without_bitsandbytes():
                adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"adapter: {error}") from error
        if self.splits:
            begin_with_weights(adapted, self.init, self.r)
        return adapted


def adds_nothing(model: Any) -> bool:
    """Whether an adapter gives every layer an exact zero to add, as a new one does whose B is zero."""
    if not isinstance(model, PeftModel):
        return False
    layers: list[Any] = [each for each in model.modules() if isinstance(each, LoraLayer)]
    seconds = [b for each in layers for b in (*each.lora_B.parameters(), *each.lora_embedding_B.values())]
    plain = not any(each.lora_variant or any(each.lora_bias.values()) for each in layers)
    return plain and bool(seconds) and not any(bool(each.any()) for each in seconds)


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter as peft saves it."""
    return (path / "adapter_config.json").is_file()


def kind_of_adapter(path: Path) -> Kind:
    """What an adapter makes of its base.

    Raises:
        ModelError: its config is broken.
    """
    return "reward_model" if str(_read_config(path).task_type) == "SEQ_CLS" else "causal_lm"


def base_of_adapter(path: Path) -> str:
    """The model that an adapter was trained on, as its config names it.

    Raises:
        ModelError: the config does not say.
    """
    base = _read_config(path).base_model_name_or_path
    if not base:
        raise ModelError(f"{path}: the adapter does not say which model it was trained on; name the model")
    return str(base)


def _read_config(path: Path) -> Any:
    try:
        return PeftConfig.from_pretrained(str(path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}/adapter_config.json: broken ({error})") from error


def load_adapter(model: PreTrainedModel, path: Path) -> PeftModel:
    """Put a saved adapter on the model that it was trained on.

    Raises:
        ModelError: it does not fit: another shape, other layers, or weights that are missing.
    """
    if not (path / "adapter_model.safetensors").is_file():
        # peft would take adapter_model.bin in its place, which is a pickle.
        raise ModelError(
            f"{path}: no adapter_model.safetensors; expected an adapter that xft or peft wrote. Weights in "
            "adapter_model.bin are not read, since a pickle can run code: save them anew with a current peft"
        )
    widen_head(model)
    try:
        with without_bitsandbytes():
            loaded = PeftModel.from_pretrained(model, str(path), is_trainable=False)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()
        detail = next(
            (each.strip() for each in reason if "size mismatch" in each),
            reason[0] if reason else "",
        )
        raise ModelError(
            f"{path}: the adapter is broken or does not fit the model {model.name_or_path!r} ({detail}); it was "
            f"trained on {base_of_adapter(path)!r}"
        ) from error
    _check_complete(loaded, path)
    return loaded


def _check_complete(model: PeftModel, path: Path) -> None:
    """Every weight of the file must have found its place, and every place its weight."""
    from peft import get_peft_model_state_dict

    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    # A weight that two layers share is saved once.
    found = {each.data_ptr() for name, each in weights.items() if name in saved}
    missing = [name for name, each in weights.items() if each.data_ptr() not in found]
    missing += sorted(saved - set(weights))
    # Embeddings with new tokens are wrapped; the frozen weight below is the base's, not the adapter's.
    missing = [name for name in missing if ".base_layer." not in name]
    if missing:
        raise ModelError(
            f"{path}: the adapter does not fit the model: {len(missing)} weights such as {missing[0]!r} "
            "are in only one of the two"
        )


def merge(model: PeftModel) -> Any:
    """Fold the adapter into the base: ``W + alpha / r · B A``, in the type of ``W``. The head of a reward
    model gets the type of the others."""
    with without_bitsandbytes():
        whole: Any = model.merge_and_unload(safe_merge=True)
    if is_reward_model(whole):
        whole.score.to(whole.dtype)
    return whole
