"""The engine of an inference server, against a stand-in: token ids, adapters, retries, errors."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.stand_in_server import StandIn, stand_in_server
from helpers.tolerances import tolerance
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from xft.errors import ConfigError, TrainingError
from xft.models.sampling import SampledTokens, SamplingOptions
from xft.rollouts import PolicyModel, ServerEngine, server_client
from xft.rollouts.server_engine import FOLDER
from xft.utils import console

PROMPTS = [[5, 6, 7], [11, 12]]
SEEDS = [[1, 2**63 + 5], [3, 4]]
OPTIONS = SamplingOptions(max_new_tokens=6, temperature=0.8, stop_ids=[3], pad_token_id=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=24,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model: Any = AutoModelForCausalLM.from_config(config)
    model.lm_head.weight.data.mul_(30)  # a temperature must make a difference
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def server(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, StandIn]]:
    monkeypatch.setattr(server_client.time, "sleep", lambda seconds: None)
    with stand_in_server(base) as running:
        yield running


@pytest.fixture
def policy(base: Path, tmp_path: Path) -> PolicyModel:
    torch.manual_seed(1)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
    )
    return PolicyModel(model.eval(), bool, 0, tmp_path, model.save_pretrained, lambda function: function())


def updated(policy: PolicyModel) -> PolicyModel:
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data.neg_()
    return dataclasses.replace(policy, version=policy.version + 1)


def log_probs(policy: PolicyModel, prompt: list[int], completion: SampledTokens) -> Any:
    ids = torch.tensor([[*prompt, *completion.ids]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / OPTIONS.temperature
    return logits.log_softmax(dim=-1).gather(1, torch.tensor(completion.ids)[:, None])[:, 0]


def test_ids_and_log_probs_are_those_of_the_current_adapter(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, _ = server
    engine = ServerEngine(url)
    samples, current = [], policy
    for update in (lambda policy: policy, updated):
        current = update(current)
        groups = engine.generate(current, PROMPTS, SEEDS, OPTIONS)
        samples.append([item for group in groups for item in group])
        for prompt, group in zip(PROMPTS, groups, strict=True):
            assert len(group) == 2
            for item in group:
                expected = log_probs(current, prompt, item)
                bound = tolerance(torch.float32, 16 * 4, scale=20)
                torch.testing.assert_close(torch.tensor(item.log_probs), expected, rtol=0, atol=bound)
                assert item.stopped == (item.ids[-1] == 3)
                assert item.entropies == [-value for value in item.log_probs]
    again = ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert [item for group in again for item in group] == samples[1]
    assert [item.log_probs for item in samples[0]] != [item.log_probs for item in samples[1]]


def test_every_setting_of_the_sampling_is_sent(server: tuple[str, StandIn], policy: PolicyModel) -> None:
    url, state = server
    ServerEngine(url, max_concurrency=1).generate(policy, PROMPTS, SEEDS, OPTIONS)
    bodies = [body for path, body in state.requests if path == "/v1/completions"]
    assert [(body["prompt"], body["seed"]) for body in bodies] == [
        (PROMPTS[0], 1), (PROMPTS[0], 5), (PROMPTS[1], 3), (PROMPTS[1], 4)
    ]  # fmt: skip
    neutral: dict[str, Any] = {
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    settings = {"temperature": 0.8, "max_tokens": 6, "min_tokens": 0, "stop_token_ids": [3], "n": 1}
    neutral["ignore_eos"] = True
    assert all(body.items() >= (neutral | settings).items() for body in bodies)


def test_the_adapter_is_loaded_once_per_update_and_the_previous_one_unloaded(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    engine = ServerEngine(url)
    names = []
    for current in (policy, policy, updated(policy)):
        engine.generate(current, PROMPTS, SEEDS, OPTIONS)
        (name,) = state.loaded
        names.append(name)
    assert names[0] == names[1] != names[2]
    assert [path.name for path in (policy.run_dir / FOLDER).iterdir()] == ["1"]
    paths = [path for path, _ in state.requests if path != "/v1/completions"]
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    assert paths == ["/v1/models", load, load, unload]


def test_sglang_has_its_own_paths_and_names(base: Path, policy: PolicyModel) -> None:
    with stand_in_server(base, prefix="") as (url, state):
        engine = ServerEngine(url, server="sglang", model="base")
        engine.generate(policy, PROMPTS, SEEDS, OPTIONS)
        (name,) = state.loaded
        models = {body["model"] for path, body in state.requests if path == "/v1/completions"}
        assert models == {f"base:{name}"}
        assert state.requests[0][0] == "/load_lora_adapter"


def test_completions_of_the_dry_run_have_the_maximum_length(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    state.eos_token_id = 3
    options = dataclasses.replace(OPTIONS, stop_ids=[])
    groups = ServerEngine(url).generate(policy, PROMPTS, SEEDS, options)
    assert {len(item.ids) for group in groups for item in group} == {6}


def test_only_the_stop_tokens_of_the_run_end_a_completion(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    expected = ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS)
    (eos, *_) = (item.ids[0] for group in expected for item in group if len(item.ids) > 1)
    state.eos_token_id = eos
    assert ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS) == expected


def test_a_stop_token_at_the_limit_of_tokens_counts_as_stopped(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    server[1].changes = {"finish_reason": "length"}
    groups = ServerEngine(server[0]).generate(policy, PROMPTS, SEEDS, OPTIONS)
    stopped = [item.stopped for group in groups for item in group]
    assert any(stopped)
    assert stopped == [item.ids[-1] == 3 for group in groups for item in group]


def test_a_request_to_an_overloaded_server_is_retried(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    expected = ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS)
    state.failures = [503, 429]
    assert ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS) == expected
    state.failures = [503] * 9
    with pytest.raises(TrainingError) as caught:
        ServerEngine(url, retries=1).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert caught.value.key == "rollout.engine.url"
    assert "503" in caught.value.got
    assert len(state.failures) == 7


def test_a_refusal_of_the_server_is_passed_on(server: tuple[str, StandIn], policy: PolicyModel) -> None:
    url, state = server
    state.failures = [400, 400]
    with pytest.raises(TrainingError) as caught:
        ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert "not now" in caught.value.got
    assert len(state.failures) == 1


def test_a_server_that_does_not_respond_in_time_is_named(base: Path, policy: PolicyModel) -> None:
    with stand_in_server(base) as (url, state):
        state.failures, state.delay = [0], 0.5
        with pytest.raises(TrainingError) as caught:
            ServerEngine(url, timeout=0.05, retries=0).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert "ReadTimeout" in caught.value.got


def test_no_server(policy: PolicyModel) -> None:
    with pytest.raises(TrainingError) as caught:
        ServerEngine("http://127.0.0.1:9", retries=0).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert "ConnectError" in caught.value.got
    # The command that the message shows must start a server that the check of log-probabilities accepts.
    assert "--logprobs-mode processed_logprobs" in str(caught.value)


@pytest.mark.parametrize(("server_name", "fix"), [("vllm", "--logprobs-mode"), ("sglang", "SGLANG_RETURN")])
def test_log_probs_of_another_temperature_end_the_run_at_its_start(
    base: Path, policy: PolicyModel, server_name: Any, fix: str
) -> None:
    with stand_in_server(base, prefix="/v1" if server_name == "vllm" else "") as (url, state):
        state.ignores_temperature = True
        with pytest.raises(TrainingError) as caught:
            ServerEngine(url, server=server_name).generate(policy, PROMPTS, SEEDS, OPTIONS)
        assert caught.value.key == "rollout.engine.url"
        assert fix in str(caught.value)
        # At temperature 1 both are the same.
        plain = dataclasses.replace(OPTIONS, temperature=1.0)
        ServerEngine(url, server=server_name).generate(policy, PROMPTS, SEEDS, plain)


def test_log_probs_of_another_model_end_the_run_at_its_start(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    def save_other(folder: Path) -> None:
        """Save an adapter that is not the trained one."""
        weights = {name: value.clone() for name, value in policy.model.state_dict().items()}
        for name, value in policy.model.state_dict().items():
            if "lora_B" in name:
                value.mul_(-20)
        policy.save(folder)
        policy.model.load_state_dict(weights)

    other = dataclasses.replace(policy, save=save_other)
    with pytest.raises(TrainingError) as caught:
        ServerEngine(server[0]).generate(other, PROMPTS, SEEDS, OPTIONS)
    assert "rollout.engine.max_log_prob_gap" in str(caught.value)
    assert ServerEngine(server[0], max_log_prob_gap=1e3).generate(other, PROMPTS, SEEDS, OPTIONS)


def test_close_unloads_the_last_adapter_and_removes_its_folder(
    server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    engine = ServerEngine(url)
    engine.close()
    assert state.requests == []
    engine.generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert len(state.loaded) == 1
    engine.close()
    assert state.loaded == {}
    assert not (policy.run_dir / FOLDER).exists()
    count = len(state.requests)
    engine.close()
    assert len(state.requests) == count
    assert len(engine.generate(policy, PROMPTS, SEEDS, OPTIONS)) == 2
    assert len(state.loaded) == 1


def test_close_logs_a_warning_if_the_server_fails(
    server: tuple[str, StandIn], policy: PolicyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    url, state = server
    engine = ServerEngine(url)
    engine.generate(policy, PROMPTS, SEEDS, OPTIONS)
    state.failures = [500]
    engine.close()
    (line,) = lines
    assert "stays on the server" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"token_ids": None},
        {"logprobs": None},
        {"token_ids": []},
        {"token_ids": [1]},
        {"logprobs": {"token_logprobs": [None]}},
        {"prompt_token_ids": [9]},
    ],
)
def test_a_response_without_usable_ids_ends_the_run(
    changes: dict[str, Any], server: tuple[str, StandIn], policy: PolicyModel
) -> None:
    url, state = server
    state.changes = changes
    # The first completion has more than one token.
    with pytest.raises(TrainingError) as caught:
        ServerEngine(url).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert caught.value.key == "rollout.engine.url"


def test_the_key_of_the_server_comes_from_the_environment(
    server: tuple[str, StandIn], policy: PolicyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ServerEngine(server[0], api_key_env="XFT_TEST_KEY")
    with pytest.raises(ConfigError) as caught:
        engine.generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert caught.value.key == "rollout.engine.api_key_env"
    monkeypatch.setenv("XFT_TEST_KEY", "secret")
    assert len(engine.generate(policy, PROMPTS, SEEDS, OPTIONS)) == 2
    assert "secret" not in repr(engine)
