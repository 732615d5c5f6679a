"""Loggers: where figures go beside the terminal, one a back end."""

from xft.engine.loggers.base import Logger
from xft.engine.loggers.jsonl import JsonLines
from xft.engine.loggers.mlflow import MLflow
from xft.engine.loggers.swanlab import SwanLab
from xft.engine.loggers.tensorboard import TensorBoard
from xft.engine.loggers.wandb import WandB

__all__ = ["JsonLines", "Logger", "MLflow", "SwanLab", "TensorBoard", "WandB"]
