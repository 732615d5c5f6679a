"""Load, override, check, build and dump configs."""

from xft.config.build import build, build_component
from xft.config.check import check
from xft.config.dump import dump_config
from xft.config.load import load_config
from xft.config.overrides import parse_overrides

__all__ = ["build", "build_component", "check", "dump_config", "load_config", "parse_overrides"]
