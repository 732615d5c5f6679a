"""DeepSpeed ZeRO (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054) as a strategy.

DeepSpeed is imported only if a config names it. It reduces gradients, clips them by their global norm and steps each
rank's shard. Gradient accumulation, the weighting by target tokens, the optimizer and its scheduler stay xft's own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xft.errors import ConfigError, TrainingError
from xft.models import TrainingModel
from xft.models.experts import expert_blocks
from xft.models.param_shapes import is_sharded, local_shard
from xft.registry import register
from xft.strategies.base import nonfinite_norm_error
from xft.strategies.batching import Batching
from xft.strategies.ddp import DistributedConfig, DistributedStrategy
from xft.strategies.deepspeed.config import Offload, load_config, stage_of
from xft.strategies.deepspeed.engine import DeepSpeedModule, import_deepspeed, init_comm
from xft.strategies.deepspeed.optimizer_state import ZeroOptimizerState, shard_problem
from xft.strategies.deepspeed.resolve import ResolvedConfig, auto_values, resolve
from xft.types import Batch, LossOutput


class DeepSpeed(DistributedStrategy):
    """ZeRO: optimizer state, gradients and parameters sharded over the ranks, by stage.

    Args:
        work_dir: run folder.
        seed: seed of the run.
        config: settings; the process group exists already.

    Attributes:
        stage: ZeRO stage.
        resolved: JSON config that DeepSpeed runs with.
    """

    def __init__(self, work_dir: str, seed: int, config: "DeepSpeedConfig") -> None:
        self._requested = config.load_json()
        self._config_name = config.config_file or "strategy"
        self.stage = stage_of(self._requested)
        self.params_are_sharded = self.stage == 3
        self.resolved: ResolvedConfig
        self.model: Any
        self._is_discarding = self._gradients_are_discarded = False
        super().__init__(work_dir, seed, config)

    def _wrap(self, model: nn.Module, batching: Batching | None) -> nn.Module:
        """Shard model and optimizer."""
        assert batching is not None
        assert isinstance(model, TrainingModel)
        deepspeed = init_comm(self.timeout_minutes)
        auto = auto_values(model, self.optimizer, self.lr_scheduler, batching, self.world_size)
        self.resolved = resolve(self._requested, auto, self._config_name)
        for param in model.parameters():
            if not is_sharded(param):
                param.data = param.data.to(self.device)
        if self.stage == 3:
            # Ranks choose different experts: gathered one by one, they would wait for each other forever.
            for block in expert_blocks(model.model):
                deepspeed.utils.set_z3_leaf_module(block, True)
        values = dict(self.resolved.values)
        if self.stage == 0:
            values["gradient_clipping"] = 0.0
            self._clip = batching.max_grad_norm
            self.optimizer.register_step_pre_hook(self._check_overflow_before_step)
        engine, *_ = deepspeed.initialize(
            model=DeepSpeedModule(model), optimizer=self.optimizer, config=values, dist_init_required=False
        )
        self._trainable = {name: param for name, param in model.named_parameters() if param.requires_grad}
        self._zero_state = ZeroOptimizerState(
            engine, self.stage, self._trainable, self.rank, self.world_size
        )
        wrapped: nn.Module = engine
        return wrapped

    def describe(self) -> list[str]:
        """Return lines for the run summary: ZeRO stage, offload and replaced ``"auto"`` values."""
        values = self.resolved.values.get("zero_optimization", {})
        offloaded = [key for key in ("offload_optimizer", "offload_param") if values.get(key)]
        filled = ", ".join(f"{key}={value}" for key, value in self.resolved.filled.items())
        return [
            f"deepspeed ZeRO stage {self.stage} on {self.world_size} rank{'s' if self.world_size > 1 else ''}"
            + (f", {' and '.join(offloaded)} to {values[offloaded[0]].get('device')}" if offloaded else ""),
            *([f"          auto: {filled}"] if filled else []),
            *super().describe(),
        ]

    def forward_backward(self, batch: Batch, scale: float, last: bool) -> LossOutput:
        """Run forward and backward; see the base class. DeepSpeed averages over ranks, as DDP does."""
        self._gradients_are_discarded = False
        with self.autocast():
            loss, output = self.model(self.to_device(batch))
        # With scale_wrt_gas=False, DeepSpeed divides by the world size only.
        self.model.backward(loss * (scale * self.world_size), scale_wrt_gas=False)
        return output

    def step(self, max_grad_norm: float | None) -> float:
        """Clip gradients, then step optimizer and scheduler; see the base class."""
        try:
            self.model.step()
        except TrainingError:
            self._restore_after_nonfinite()
            raise
        norm = self._norm if self.stage == 0 else float(self.model.get_global_grad_norm())
        if not self.model.was_step_applied():
            self._gradients_are_discarded = True
            raise nonfinite_norm_error(norm)
        self.lr_scheduler.step()
        return norm

    def zero_grad(self) -> None:
        """Discard the gradients of a step that is skipped.

        DeepSpeed tracks gradients in many places, and clears all of them in its own path for non-finite gradients. This
        method takes that path with a norm of infinity.
        """
        if self._gradients_are_discarded:
            return
        if self.stage == 0:
            self._is_discarding = True
            try:
                self.model.step()
            except TrainingError:
                self._restore_after_nonfinite()
            finally:
                self._is_discarding = False
            return
        sharded = self.model.optimizer
        name = "_get_norm_groups" if self.stage == 3 else "scaled_global_norm"
        infinite = torch.tensor(float("inf"), device=self.device)
        setattr(sharded, name, lambda *_, **__: [infinite] if self.stage == 3 else infinite)
        try:
            self.model.step()
        finally:
            delattr(sharded, name)

    def _check_overflow_before_step(self, *_: object) -> None:
        """Clip gradients under stage 0, where DeepSpeed does not check them."""
        limit = self._clip if self._clip is not None else float("inf")
        self._norm = float(nn.utils.clip_grad_norm_(self._trainable.values(), limit))
        if self._is_discarding or not torch.isfinite(torch.tensor(self._norm)):
            raise nonfinite_norm_error(self._norm)

    def _restore_after_nonfinite(self) -> None:
        self._gradients_are_discarded = True
        self.model.zero_grad()
        self.model._running_engine_step = False

    @contextmanager
    def summon_full_params(
        self, parameters: Iterable[nn.Parameter], write: bool = False
    ) -> Iterator[Sequence[Tensor]]:
        """Unshard parameters inside the context; see the base class. Collective."""
        params = list(parameters)
        if self.stage < 3:
            yield params
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(params, modifier_rank=0 if write else None):
            yield params

    def load_full_param(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrite a possibly sharded parameter; see the base class."""
        if is_sharded(parameter):
            self._zero_state.load_full_param(parameter, value)
        else:
            super().load_full_param(parameter, value)

    def local_view(self, parameter: nn.Parameter) -> Tensor:
        """Return the elements of a parameter that this rank stores; see the base class."""
        return local_shard(parameter)

    def sync_master_weights(self) -> None:
        """Update fp32 master weights after parameters were overwritten."""
        if self.stage > 0:
            self.model.optimizer.refresh_fp32_params()

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer state by parameter name; see the base class."""
        if self.stage == 0:
            return super().optimizer_state()
        return {"groups": self._hyperparameters(), "state": self._zero_state.state()}

    def load_optimizer_state(self, tree: Mapping[str, Any]) -> None:
        """Load a state that ``optimizer_state`` of any strategy and world size returned."""
        if self.stage == 0:
            super().load_optimizer_state(tree)
            return
        self._load_hyperparameters(tree["groups"])
        self._zero_state.load(tree["state"])


@register("strategy", "deepspeed")
@dataclass(frozen=True)
class DeepSpeedConfig(DistributedConfig):
    """DeepSpeed ZeRO, which shards what does not fit on one device.

    Args:
        zero_stage: 1 shards optimizer state, 2 gradients too, 3 parameters too; 0 shards nothing; default 2.
        offload: ``optimizer`` keeps optimizer state in host memory, ``all`` sharded parameters too.
        config_file: JSON file with DeepSpeed's config, instead of ``zero_stage`` and ``offload``.
    """

    zero_stage: Literal[0, 1, 2, 3] | None = None
    offload: Offload = "none"
    config_file: str | None = None

    def load_json(self) -> dict[str, Any]:
        """Return DeepSpeed's JSON config, before ``"auto"`` values are filled in."""
        return load_config(self.zero_stage, self.offload, self.config_file)

    def validate(self, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        """Check that DeepSpeed is installed, that its config can be read, and that it can shard the optimizer."""
        import_deepspeed()
        self.load_json()
        if problem := shard_problem(optimizer):
            raise ConfigError(
                f"optimizer: {problem}; use 'adamw' with DeepSpeed", key="optimizer.type", got=problem
            )

    @contextmanager
    def model_init_context(
        self, dtype: torch.dtype, is_quantized: bool, needs_full_weights: bool = False
    ) -> Iterator[None]:
        """Shard parameters as they are read, under stage 3.

        Every rank reads quantized weights completely, and shards them later: bitsandbytes quantizes full weights only.
        """
        requested = self.load_json()
        if stage_of(requested) != 3 or is_quantized:
            yield
            return
        from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

        init_comm(self.timeout_minutes)
        # transformers keeps a weak reference, which ends with this variable.
        hf_config = HfDeepSpeedConfig(
            {
                "train_micro_batch_size_per_gpu": 1,
                "bf16": {"enabled": dtype == torch.bfloat16},
                "fp16": {"enabled": dtype == torch.float16},
                "zero_optimization": requested["zero_optimization"],
            }
        )
        try:
            yield
        finally:
            del hf_config
            unset_hf_deepspeed_config()

    def build(self, work_dir: str, seed: int) -> DeepSpeed:
        """Build the strategy of a run."""
        return DeepSpeed(work_dir, seed, self)
