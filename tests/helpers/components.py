"""Sources of user components, as a config names them by dotted path."""

BLOWING = """
import torch
from mmengine.hooks import Hook
from xft.objectives import next_token

weights = []

class Infinite(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()
    @staticmethod
    def backward(context, gradient):
        return gradient * float('inf')

def blow(model, batch, token, kind):
    output = next_token(model, batch)
    if token is None or bool((batch.input_ids == token).any()):
        if kind == 'loss':
            output.loss_sum = output.loss_sum * float('nan')
        elif kind == 'gradient':
            output.loss_sum = Infinite.apply(output.loss_sum)
        else:
            output.loss_sum = output.loss_sum * kind
    return output

class Watch(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        kept = runner.unwrapped_model.named_parameters()
        weights.append({name: each.detach().clone() for name, each in kept if each.requires_grad})
"""

HOOK = """
from mmengine.hooks import Hook

class BreakOff(Hook):
    priority = 'LOWEST'
    def __init__(self, at):
        self.at = at
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at:
            raise KeyboardInterrupt
"""
