"""Hooks, loggers and the seed: the same for every run, unless a config says otherwise."""

hooks = dict(
    training_health=dict(type="training_health"),
    progress=dict(type="progress"),
    validation=dict(type="validation"),
    sample_generation=dict(type="sample_generation"),
    checkpoint=dict(type="checkpoint"),
    verify=dict(type="verify"),
)
loggers = dict(jsonl=dict(type="jsonl"))  # or: tensorboard, wandb, swanlab, mlflow
eval_prompts = []  # asked before and after: "val_rows", or a list: "A question", dict(question="...", reference="...")
seed = 0
