"""The parts of MMEngine that xft builds on, imported without DeepSpeed, bitsandbytes and torch's sharded optimizers.

``mmengine._strategy`` and everything that imports it (the runner, for one) import these libraries wherever
they are installed, which takes a second or two. xft imports them only when a config asks for them.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# transformers checks once whether DeepSpeed is installed. It must check before DeepSpeed is hidden.
import transformers.integrations.deepspeed  # noqa: F401
from mmengine.config import Config
from torch import nn

from xft.utils.system import blocked_imports

with blocked_imports("deepspeed", "bitsandbytes", "torch.distributed.optim"):
    from mmengine._strategy import BaseStrategy
    from mmengine.hooks import Hook
    from mmengine.runner import BaseLoop, FlexibleRunner
    from mmengine.utils import ManagerMixin
    from mmengine.visualization import Visualizer

__all__ = ["BaseLoop", "Hook", "RunnerBase", "StrategyBase"]


class StrategyBase(BaseStrategy):
    """MMEngine's strategy without its environment setup, its logger and its checkpoints.

    Subclasses set ``rank`` and ``world_size`` before they call this constructor.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        # MMEngine registers global objects under this name and warns if a second run has the same.
        self._experiment_name = f"{self.work_dir}@{time.time_ns()}"

    def _setup_env(self, seed: int) -> None:
        """Set the attributes that MMEngine's runner reads; seed nothing."""
        self._launcher = "none"
        self._distributed = self.world_size > 1
        # MMEngine writes its logs to a folder of this name inside the run folder; xft writes one file.
        self._timestamp = ""
        self._seed = seed
        self._randomness = {"seed": seed}

    def build_logger(self, **_: object) -> logging.Logger:
        """Return a logger whose records reach ``train.log`` and not the terminal."""
        logger = logging.getLogger("xft.runner")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        return logger

    def save_checkpoint(self, filename: str, **_: object) -> NoReturn:
        """Raise: checkpoints are written by ``xft.checkpoint``."""
        raise NotImplementedError("checkpoints are written by xft.checkpoint")

    def resume(self, filename: str, **_: object) -> NoReturn:
        """Raise: checkpoints are read by ``xft.checkpoint``."""
        raise NotImplementedError("checkpoints are read by xft.checkpoint")

    def load_checkpoint(self, filename: str, **_: object) -> NoReturn:
        """Raise: checkpoints are read by ``xft.checkpoint``."""
        raise NotImplementedError("checkpoints are read by xft.checkpoint")


class NoVisualizer(Visualizer):
    """MMEngine's visualizer without backends and figures, for which it imports matplotlib: half a second."""

    def __init__(self, name: str) -> None:
        ManagerMixin.__init__(self, name)
        self._vis_backends: dict[str, object] = {}


_STANDARD_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


class RunnerBase(FlexibleRunner):
    """MMEngine's runner with objects instead of configs, and without its own hooks, logs and checkpoints.

    Its log records go to ``train.log``, not to the terminal.

    Args:
        model: the training model.
        strategy: the strategy, which also provides the run folder.
        hooks: the hooks.
        config: the resolved config.
    """

    def __init__(
        self, *, model: nn.Module, strategy: StrategyBase, hooks: Sequence[Hook], config: Mapping[str, Any]
    ) -> None:
        super().__init__(
            model=model,
            work_dir=strategy.work_dir,
            strategy=strategy,
            default_hooks=dict.fromkeys(_STANDARD_HOOKS),
            custom_hooks=list(hooks),
            launcher=strategy.launcher,
            cfg=Config(dict(config)),
        )

    def build_visualizer(self, visualizer: object = None) -> Any:
        """Return a visualizer without backends: metrics go to xft's loggers."""
        return NoVisualizer.get_instance(self.experiment_name)

    def dump_config(self) -> None:
        """Do nothing: the resolved config is written before the runner exists."""

    def _log_env(self) -> None:
        self.logger.info(json.dumps(dict(self.cfg), default=str))
