"""Loggers: where figures go beside the terminal, one a back end."""

from xft.loggers.base import Logger
from xft.loggers.jsonl import JsonLines
from xft.loggers.mlflow import MLflow
from xft.loggers.swanlab import SwanLab
from xft.loggers.tensorboard import TensorBoard
from xft.loggers.wandb import WandB

__all__ = ["JsonLines", "Logger", "MLflow", "SwanLab", "TensorBoard", "WandB"]
