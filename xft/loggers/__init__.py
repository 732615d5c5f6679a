"""Loggers: one class for each destination of metrics."""

from xft.loggers.base import ExperimentLogger, Logger
from xft.loggers.jsonl import JsonLines
from xft.loggers.mlflow import MLflow
from xft.loggers.swanlab import SwanLab
from xft.loggers.tensorboard import TensorBoard
from xft.loggers.wandb import WandB

__all__ = ["ExperimentLogger", "JsonLines", "Logger", "MLflow", "SwanLab", "TensorBoard", "WandB"]
