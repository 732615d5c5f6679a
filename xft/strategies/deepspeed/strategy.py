"""DeepSpeed's ZeRO (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): optimizer state,
gradients and weights shared out between the ranks.

DeepSpeed is imported here alone, and only when it is asked for. What a step is stays xft's own: the
windows of accumulation, the weight of each trained token, the optimizer and its schedule. DeepSpeed
reduces gradients, clips them by their global norm and steps each rank's share.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xft.distributed.launch import DEFAULT_TIMEOUT_MINUTES, start_process_group
from xft.errors import ConfigError, TrainingError
from xft.models import TrainingModel
from xft.optim import build_optimizer
from xft.registry import register
from xft.strategies.batching import Portions
from xft.strategies.ddp import Distributed
from xft.strategies.deepspeed.config import Facts, Settled, read_asked, settle, stage_of
from xft.strategies.deepspeed.engine import Engined, import_deepspeed, join_ranks
from xft.strategies.deepspeed.optimizer_state import Shares, why_whole
from xft.strategies.single_device import Autocast
from xft.types import LossOutput

Offload = Literal["none", "optimizer", "all"]


@register("strategy", "deepspeed")
class DeepSpeed(Distributed):
    """ZeRO: what one device cannot hold is shared out. NCCL on GPUs, gloo on CPUs.

    Args:
        work_dir: the run folder.
        seed: of the run.
        device: as for one device.
        autocast: as for one device.
        launcher: as for ``ddp``.
        timeout_minutes: as for ``ddp``.
        sequence_parallel_size: as for ``ddp``.
        zero: what is shared out: 1 the state of the optimizer, 2 gradients too, 3 weights too; 0
            nothing. 2 where nothing is said.
        offload: ``optimizer`` keeps that state in the memory of the host, ``all`` the shared weights too.
        json: a file of DeepSpeed's options in place of the two.
    """

    def __init__(
        self,
        work_dir: str,
        seed: int,
        device: str = "auto",
        autocast: Autocast | None = None,
        launcher: str = "pytorch",
        timeout_minutes: float = DEFAULT_TIMEOUT_MINUTES,
        sequence_parallel_size: int = 1,
        zero: Literal[0, 1, 2, 3] | None = None,
        offload: Offload = "none",
        json: str | None = None,
    ) -> None:
        self._asked = read_asked(zero, offload, json)
        self._where = json or "strategy"
        self.stage = stage_of(self._asked)
        self.together = self.stage == 3
        self.settled: Settled
        self.model: Any
        self._refuse = self._forgotten = False
        super().__init__(
            work_dir, seed, device, autocast, launcher, timeout_minutes, sequence_parallel_size
        )

    @classmethod
    def check(cls, options: Mapping[str, Any], optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        """See that DeepSpeed is there, that its JSON is, and that the optimizer can be shared out; see the base."""
        import_deepspeed()
        stage_of(read_asked(options.get("zero"), options.get("offload", "none"), options.get("json")))
        # Of what class it is shows when it is made.
        made = build_optimizer(optimizer, nn.ParameterList([torch.zeros(1, 1)]))
        if (reason := why_whole(made)) is not None:
            raise ConfigError(f"optimizer: {reason}; take 'adamw' with DeepSpeed")

    @classmethod
    @contextmanager
    def loading(
        cls, dtype: torch.dtype, quantised: bool, launcher: str, options: Mapping[str, Any]
    ) -> Iterator[None]:
        """Under stage 3, weights that are read under ``with`` are shared out at once.

        Quantised weights are read whole by every rank, and shared out after: bitsandbytes must see
        a weight as a whole to quantise it.
        """
        start_process_group(launcher, options.get("timeout_minutes", DEFAULT_TIMEOUT_MINUTES))
        asked = read_asked(options.get("zero"), options.get("offload", "none"), options.get("json"))
        if stage_of(asked) != 3 or quantised:
            yield
            return
        from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

        join_ranks(options.get("timeout_minutes", DEFAULT_TIMEOUT_MINUTES))
        kept = HfDeepSpeedConfig(
            {
                "train_micro_batch_size_per_gpu": 1,
                "bf16": {"enabled": dtype == torch.bfloat16},
                "fp16": {"enabled": dtype == torch.float16},
                "zero_optimization": asked["zero_optimization"],
            }
        )
        try:
            yield
        finally:
            del kept
            unset_hf_deepspeed_config()

    def prepare(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        portions: Portions | None = None,
    ) -> None:
        """Take over what is trained, and share it out.

        Raises:
            ConfigError: the JSON contradicts the config.
        """
        assert portions is not None
        assert isinstance(model, TrainingModel)
        deepspeed = join_ranks(self.timeout_minutes)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        names = {id(each): name for name, each in model.named_parameters()}
        self._groups = [[names[id(each)] for each in group["params"]] for group in optimizer.param_groups]
        self.settled = settle(self._asked, self._facts(model, portions), self._where)
        for each in model.parameters():
            if not hasattr(each, "ds_id"):
                each.data = each.data.to(self.device)
        values = dict(self.settled.values)
        if self.stage == 0:
            values["gradient_clipping"] = 0.0
            self._clip = portions.clip
            optimizer.register_step_pre_hook(self._before_plain_step)
        self.model, *_ = deepspeed.initialize(
            model=Engined(model), optimizer=optimizer, config=values, dist_init_required=False
        )
        self._trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._shares = Shares(self.model, self.stage, self._trained, self.rank, self.world_size)
        self.model.train()
        self._prepared = True

    def _facts(self, model: nn.Module, portions: Portions) -> Facts:
        first = self.optimizer.param_groups[0]
        hyper: dict[str, Any] = {
            key: first[key] for key in ("betas", "eps", "weight_decay") if key in first
        }
        hyper["lr"] = first.get("initial_lr", first["lr"])
        rate = self.lr_scheduler.lr_lambdas[0]  # type: ignore[attr-defined]
        steps = portions.num_steps
        warmup = next((each for each in range(steps) if rate(each) >= 1), 0)
        trained = [each for each in model.parameters() if each.requires_grad]
        config: Any = model.model.config  # type: ignore[union-attr]
        return Facts(
            world_size=self.world_size,
            batch_size=portions.batch_size,
            accumulation=portions.accumulation,
            clip=portions.clip,
            optimizer={"type": type(self.optimizer).__name__, **hyper},
            num_steps=steps,
            warmup=warmup,
            quarter=rate(warmup + (steps - warmup) // 4),
            dtype=str(trained[0].dtype).removeprefix("torch."),
            trained=sum(getattr(each, "ds_numel", each.numel()) for each in trained),
            hidden=int(config.get_text_config().hidden_size),
        )

    def describe(self) -> list[str]:
        """Lines for the terminal: what is shared out, and what was filled in."""
        values = self.settled.values.get("zero_optimization", {})
        moved = [key for key in ("offload_optimizer", "offload_param") if values.get(key)]
        filled = ", ".join(f"{key}={value}" for key, value in self.settled.filled.items())
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
            self._shares.put(parameter, value)
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
        return {"groups": self._hyper(), "state": self._shares.state()}

    def load_optimizer_state(self, tree: Mapping[str, Any]) -> None:
        """Put back what ``optimizer_state`` gave, of any strategy on any number of ranks."""
        if self.stage == 0:
            super().load_optimizer_state(tree)
            return
        self._set_hyper(tree["groups"])
        self._shares.load(tree["state"])
