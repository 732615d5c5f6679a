"""The parts of MMEngine that xft builds on, imported without DeepSpeed and bitsandbytes.

``mmengine._strategy`` and everything that imports it (the runner, for one) import both libraries wherever
they are installed, which takes a second or two. xft imports them only when a config asks for them.
"""

# transformers checks once whether DeepSpeed is installed. It must check before DeepSpeed is hidden.
import transformers.integrations.deepspeed  # noqa: F401

from xft.utils.system import hidden

with hidden("deepspeed", "bitsandbytes"):
    from mmengine._strategy import BaseStrategy
    from mmengine.hooks import Hook
    from mmengine.runner import BaseLoop, FlexibleRunner
    from mmengine.visualization import Visualizer

__all__ = ["BaseLoop", "BaseStrategy", "FlexibleRunner", "Hook", "Visualizer"]
