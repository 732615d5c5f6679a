"""Configs: load them, override them, check them, build what they declare, write them down."""

from xft.config.build import build, build_component
from xft.config.check import check
from xft.config.load import dump_config, load_config
from xft.config.overrides import parse_overrides

__all__ = ["build", "build_component", "check", "dump_config", "load_config", "parse_overrides"]
