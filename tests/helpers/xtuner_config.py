"""A config in the form of XTuner, for tests of the import."""

HEAD = """
from datasets import load_dataset
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper, CosineAnnealingLR, LinearLR
from peft import LoraConfig
from torch.optim import AdamW
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from xtuner.dataset import ConcatDataset, process_hf_dataset
from xtuner.dataset.map_fns import alpaca_map_fn, oasst1_map_fn, pretrain_map_fn, template_map_fn_factory
from xtuner.engine.hooks import EvaluateChatHook
from xtuner.engine.runner import TrainLoop
from xtuner.model import DPO, ORPO, LLaVAModel, RewardModel, SupervisedFinetune
from xtuner.utils import PROMPT_TEMPLATE, SYSTEM_TEMPLATE

path = 'org/model'
prompt_template = PROMPT_TEMPLATE.qwen_chat
max_length = 512
sequence_parallel_size = 1
batch_size = 2
accumulative_counts = 4
accumulative_counts *= sequence_parallel_size
max_epochs = 2
lr, weight_decay, max_norm, warmup_ratio = 1e-4, 0, 1, 0.1
save_steps, save_total_limit, evaluation_freq = 50, 3, 25
evaluation_inputs = ['Who are you?']
llm = dict(type=AutoModelForCausalLM.from_pretrained, pretrained_model_name_or_path=path)
rows = dict(
    type=process_hf_dataset, dataset=dict(type=load_dataset, path='org/rows'), dataset_map_fn=alpaca_map_fn,
    template_map_fn=dict(type=template_map_fn_factory, template=prompt_template), max_length=max_length,
    pack_to_max_length=True,
)
train_dataloader = dict(batch_size=batch_size, num_workers=0, dataset=rows)
optim_wrapper = dict(
    type=AmpOptimWrapper, optimizer=dict(type=AdamW, lr=lr, weight_decay=weight_decay),
    clip_grad=dict(max_norm=max_norm, error_if_nonfinite=False), accumulative_counts=accumulative_counts,
    loss_scale='dynamic', dtype='float16',
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-5, by_epoch=True, begin=0, end=warmup_ratio * max_epochs),
    dict(type=CosineAnnealingLR, eta_min=0.0, by_epoch=True, begin=warmup_ratio * max_epochs, end=max_epochs),
]
train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=save_steps, max_keep_ckpts=save_total_limit)
)
custom_hooks = [
    dict(type=EvaluateChatHook, every_n_iters=evaluation_freq, evaluation_inputs=evaluation_inputs)
]
randomness = dict(seed=7, deterministic=False)
"""
"""All sections but the model."""
LORA = """
quantization = dict(type=BitsAndBytesConfig, load_in_4bit=True, bnb_4bit_use_double_quant=False)
model = dict(
    type=SupervisedFinetune, llm=dict(**llm, quantization_config=quantization), lora=dict(type=LoraConfig, r=8, lora_alpha=16)
)
"""
"""A model with a quantized base and an adapter."""
