"""DeepSpeed's ZeRO (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): optimizer state,
gradients and weights shared out between the ranks.

DeepSpeed is imported here alone, and only when it is asked for. What a step is stays xft's own: the
windows of accumulation, the weight of each trained token, the optimizer and its schedule. DeepSpeed
reduces gradients, clips them by their global norm and steps each rank's share.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xft.errors import ConfigError, TrainingError
from xft.models import TrainingModel
from xft.optim import build_optimizer
from xft.registry import register
from xft.strategies.batching import Batching
from xft.strategies.ddp import DistributedConfig, DistributedStrategy
from xft.strategies.deepspeed.config import Offload, load_config, stage_of
from xft.strategies.deepspeed.engine import DeepSpeedModule, import_deepspeed, init_comm
from xft.strategies.deepspeed.optimizer_state import ZeroOptimizerState, unshardable_reason
from xft.strategies.deepspeed.resolve import ResolvedConfig, auto_values, resolve
from xft.types import LossOutput


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
        self.together = self.stage == 3
        self.resolved: ResolvedConfig
        self.model: Any
        self._refuse = self._forgotten = False
        super().__init__(work_dir, seed, config)

    def prepare(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        batching: Batching | None = None,
    ) -> None:
        """Take over what is trained, and share it out.

        Raises:
            ConfigError: the JSON contradicts the config.
        """
        assert batching is not None
        assert isinstance(model, TrainingModel)
        deepspeed = init_comm(self.timeout_minutes)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        names = {id(each): name for name, each in model.named_parameters()}
        self._groups = [[names[id(each)] for each in group["params"]] for group in optimizer.param_groups]
        auto = auto_values(model, optimizer, lr_scheduler, batching, self.world_size)
        self.resolved = resolve(self._requested, auto, self._config_name)
        for each in model.parameters():
            if not hasattr(each, "ds_id"):
                each.data = each.data.to(self.device)
        values = dict(self.resolved.values)
        if self.stage == 0:
            values["gradient_clipping"] = 0.0
            self._clip = batching.max_grad_norm
            optimizer.register_step_pre_hook(self._before_plain_step)
        self.model, *_ = deepspeed.initialize(
            model=DeepSpeedModule(model), optimizer=optimizer, config=values, dist_init_required=False
        )
        self._trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._zero_state = ZeroOptimizerState(
            self.model, self.stage, self._trained, self.rank, self.world_size
        )
        self.model.train()
        self._prepared = True

    def describe(self) -> list[str]:
        """Lines for the terminal: what is shared out, and what was filled in."""
        values = self.resolved.values.get("zero_optimization", {})
        moved = [key for key in ("offload_optimizer", "offload_param") if values.get(key)]
        filled = ", ".join(f"{key}={value}" for key, value in self.resolved.filled.items())
        return [
            f"deepspeed ZeRO stage {self.stage} on {self.world_size} rank{'s' if self.world_size > 1 else ''}"
            + (f", {' and '.join(moved)} to {values[moved[0]].get('device')}" if moved else ""),
            *([f"          auto: {filled}"] if filled else []),
            *super().describe(),
        ]

    def forward_backward(self, batch: Any, scale: float, last: bool) -> LossOutput:
        """One micro-batch; see the base. DeepSpeed takes the mean over ranks, as DDP does."""
        self._forgotten = False
        with self.autocast():
            loss, output = self.model(self.place(batch))
        # Called so, it divides by nothing else than the number of ranks.
        self.model.backward(loss * (scale * self.world_size), scale_wrt_gas=False)
        return output

    def step(self, clip: float | None) -> float:
        """Clip, change the weights, move the learning rate on; see the base."""
        try:
            self.model.step()
        except TrainingError:
            self._after_plain_refusal()
            raise
        norm = self._norm if self.stage == 0 else float(self.model.get_global_grad_norm())
        if not self.model.was_step_applied():
            self._forgotten = True
            raise TrainingError(
                f"the norm of the gradient is {norm}, and the weights were left as they are"
            )
        self.lr_scheduler.step()
        return norm

    def discard(self) -> None:
        """Forget the gradients of this window, in the way in which DeepSpeed forgets those that are
        not finite: it keeps track of them in many places."""
        if self._forgotten:
            return
        if self.stage == 0:
            self._refuse = True
            try:
                self.model.step()
            except TrainingError:
                self._after_plain_refusal()
            finally:
                self._refuse = False
            return
        sharded = self.model.optimizer
        name = "_get_norm_groups" if self.stage == 3 else "scaled_global_norm"
        infinite = torch.tensor(float("inf"), device=self.device)
        setattr(sharded, name, lambda *_, **__: [infinite] if self.stage == 3 else infinite)
        try:
            self.model.step()
        finally:
            delattr(sharded, name)

    def _before_plain_step(self, *_: Any) -> None:
        """Stage 0 shards nothing, and DeepSpeed does not look at its gradients."""
        limit = self._clip if self._clip is not None else float("inf")
        self._norm = float(nn.utils.clip_grad_norm_(self._trained.values(), limit))
        if self._refuse or not torch.isfinite(torch.tensor(self._norm)):
            raise TrainingError(
                f"the norm of the gradient is {self._norm}, and the weights were left as they are"
            )

    def _after_plain_refusal(self) -> None:
        self._forgotten = True
        self.model.zero_grad()
        self.model._running_engine_step = False

    @contextmanager
    def gathered(self, parameters: Iterable[nn.Parameter], write: bool = False) -> Iterator[None]:
        """Whole weights under ``with``; see the base."""
        if self.stage < 3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0 if write else None):
            yield

    def put(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Write over a weight; see the base."""
        if hasattr(parameter, "ds_id"):
            self._zero_state.put(parameter, value)
        else:
            super().put(parameter, value)

    def sample(self, parameter: nn.Parameter) -> Tensor:
        """Numbers of a weight that this rank has; see the base."""
        share: Tensor = getattr(parameter, "ds_tensor", parameter)
        return share

    def after_loading(self) -> None:
        """Weights were written over: their copies in full precision must follow."""
        if self.stage > 0:
            self.model.optimizer.refresh_fp32_params()

    def optimizer_state(self) -> dict[str, Any]:
        """The state of the optimizer by names of weights; see the base."""
        if self.stage == 0:
            return super().optimizer_state()
        return {"groups": self._hyper(), "state": self._zero_state.state()}

    def load_optimizer_state(self, tree: Mapping[str, Any]) -> None:
        """Put back what ``optimizer_state`` gave, of any strategy on any number of ranks."""
        if self.stage == 0:
            super().load_optimizer_state(tree)
            return
        self._set_hyper(tree["groups"])
        self._zero_state.load(tree["state"])


@register("strategy", "deepspeed")
@dataclass(frozen=True)
class DeepSpeedConfig(DistributedConfig):
    """DeepSpeed ZeRO, which shards what does not fit on one device.

    Args:
        device: ``auto``, or a torch device name.
        mixed_precision: autocast dtype; ``None`` computes in the dtype of the weights.
        timeout_minutes: minutes that a collective waits for the other ranks.
        sequence_parallel_size: neighboring ranks that share each batch along the sequence.
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
        # An instance is needed, because the class of an optimizer function is not known before.
        instance = build_optimizer(optimizer, nn.ParameterList([torch.zeros(1, 1)]))
        if (reason := unshardable_reason(instance)) is not None:
            raise ConfigError(
                f"optimizer: {reason}; use 'adamw' with DeepSpeed",
                key="optimizer.type",
                got=type(instance).__name__,
            )

    @contextmanager
    def model_init_context(self, dtype: torch.dtype, is_quantized: bool) -> Iterator[None]:
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
