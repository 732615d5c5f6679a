"""Hooks, loggers and the seed: the same for every run, unless a config says otherwise."""

seed = 0
hooks = dict(
    guards=dict(type="guards"),
    progress=dict(type="progress"),
    validation=dict(type="validation"),
    questions=dict(type="questions"),
    checkpoint=dict(type="checkpoint"),
    verify=dict(type="verify"),
)
loggers = dict(jsonl=dict(type="jsonl"))
questions = []
