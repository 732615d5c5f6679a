"""Datasets of XTuner."""

import pytest
from helpers.xtuner_config import HEAD, LORA

from xft.errors import ConfigError
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.python_values import Name
from xft.migration.xtuner import import_xtuner
from xft.migration.xtuner_data import component


def read(end: str) -> Draft:
    draft = import_xtuner(HEAD + LORA + end, "c.py")
    assert draft.unexplained == []
    return draft


def test_rows_have_path_format_length_and_template() -> None:
    config = read("").finish()
    assert config["template"] == "qwen_chat"
    assert config["data"] == {
        "type": "instruction",
        "path": "org/rows",
        "format": "alpaca",
        "max_length": 512,
        "on_overlong": "truncate",
        "val_split": None,
    }


@pytest.mark.parametrize(
    ("end", "path", "value"),
    [
        ("rows['pack_to_max_length'] = False\n", "data.packing", False),
        ("rows['dataset'] = dict(path='json', data_files=dict(train='a.json'))\n", "data.path", "a.json"),
        ("rows['dataset']['name'] = 'en'\n", "data.path", "org/rows:en"),
        ("rows['dataset']['split'] = 'dev'\n", "data.split", "dev"),
        ("rows['max_dataset_length'] = 9\n", "data.path", "org/rows#9"),
        ("rows['dataset_map_fn'] = pretrain_map_fn\n", "data.type", "text"),
        ("rows['dataset_map_fn'] = mine\n", "data.format", "auto"),
        ("rows['dataset'] = make()\n", "data.path", "my_rows.jsonl"),
        ("train_dataloader = dict(dataset=make())\n", "data.path", "my_rows.jsonl"),
        ("prompt_template = PROMPT_TEMPLATE.unknown_chat\n", "template", "auto"),
        ("prompt_template = PROMPT_TEMPLATE.mistral\n", "template", "mistral"),
    ],
)
def test_keys_have_their_place(end: str, path: str, value: object) -> None:
    assert read(end).get(path) == value


def test_concatenated_datasets_are_a_mixture() -> None:
    second = "dict(type=process_hf_dataset, dataset=dict(path='json', data_files='b.json'), dataset_map_fn=oasst1_map_fn)"
    dataset = f"train_dataloader = dict(dataset=dict(type=ConcatDataset, datasets=[rows, {second}]))\n"
    sections = read(dataset).get("data.datasets")
    assert [(section["path"], section["format"]) for section in sections.values()] == [
        ("org/rows", "alpaca"),
        ("b.json", "oasst1"),
    ]


@pytest.mark.parametrize(
    ("end", "key", "kind"),
    [
        ("", "train_dataloader.dataset.pack_to_max_length", CHANGED),
        ("rows['pack_to_max_length'] = False\n", "train_dataloader.dataset.pack_to_max_length", TAKEN),
        ("rows['bot_name'] = 'x'\n", "train_dataloader.dataset.bot_name", MISSING),
        ("val_cfg = dict(type=ValLoop)\n", "val_cfg", MISSING),
        ("prompt_template = PROMPT_TEMPLATE.mistral\n", "prompt_template", CHANGED),
    ],
)
def test_other_keys_are_listed(end: str, key: str, kind: str) -> None:
    assert {key: entry.kind for entry in read(end).entries for key in entry.keys}[key] == kind


def test_rows_of_two_kinds_are_an_error() -> None:
    second = "dict(type=process_hf_dataset, dataset=dict(path='org/text'), dataset_map_fn=pretrain_map_fn)"
    with pytest.raises(ConfigError) as caught:
        read(f"train_dataloader = dict(dataset=dict(datasets=[rows, {second}]))\n")
    assert caught.value.key == "train_dataset"


def test_component_is_the_last_name_without_its_class_method() -> None:
    assert component(Name("transformers.AutoModel.from_pretrained")) == "AutoModel"
    assert component(None) == ""
