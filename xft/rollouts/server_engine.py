"""Engine that samples with an existing inference server with the completions API of OpenAI, such as vLLM."""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from xft.errors import XftError
from xft.models.sampling import SampledTokens, SamplingOptions, completion_log_probs
from xft.registry import register
from xft.rollouts.engines import Engine, PolicyModel
from xft.rollouts.server_client import ServerClient
from xft.types.ranges import Count, CountOrZero, Positive
from xft.utils import console

FOLDER = "rollout_adapter"
"""Subfolder of the run folder with the adapter that the server has loaded."""
_LORA_PATHS = {"vllm": "/v1/", "sglang": "/"}
_CLOSE_TIMEOUT = 30.0
"""Maximum timeout in seconds of the request that unloads the last adapter."""
_MIN_GAP = 0.01
"""Maximum mean difference of log-probabilities, in nats per token, that rounding may cause."""


@dataclass
class _Loaded:
    """State of the server.

    Attributes:
        version: number of updates of the adapter that the server has loaded; -1 without an adapter.
        name: name of the adapter on the server.
        base: name of the base model on the server.
        folder: folder of the adapter on rank 0, which loads it; ``None`` on other ranks and without an adapter.
        is_checked: whether the log-probabilities of a completion were compared with those of the trained model.
    """

    version: int = -1
    name: str = ""
    base: str = ""
    folder: Path | None = None
    is_checked: bool = False


@register("engine", "openai_server")
@dataclass(frozen=True)
class ServerEngine(Engine):
    """Sample with an inference server that loads the adapter after each update.

    Prompts and completions are sent as token ids. Every sampling setting is sent, so defaults of the server and
    recommendations of the checkpoint do not apply. Each completion is one request with its own seed; the prefix cache of the
    server computes a prompt once. The server must be able to read the run folder.

    Args:
        url: address of the server, such as ``http://localhost:8000``.
        server: ``vllm`` or ``sglang``.
        model: name of the base model on the server; by default the first model that the server lists.
        max_concurrency: maximum number of concurrent requests per rank.
        timeout: timeout in seconds of connecting, and of waiting for the response to one request.
        retries: maximum number of retries of a request after a transport error, a timeout or a status of 429, 502, 503 or
            504, with exponential back-off (1, 2, 4, ... seconds). Requests that load or unload an adapter are not retried.
        max_log_prob_gap: maximum mean difference of the log-probabilities of server and trained model, in nats per token; a
            larger difference ends the run. Only the longest completion of the first call is compared, on each rank.
        api_key_env: environment variable with the API key of the server.
    """

    supports_full_models: ClassVar[bool] = False

    url: str
    server: Literal["vllm", "sglang"] = "vllm"
    model: str | None = None
    max_concurrency: Count = 64
    timeout: Positive = 600.0
    retries: CountOrZero = 3
    max_log_prob_gap: Positive = 0.3
    api_key_env: str | None = None
    _loaded: _Loaded = field(default_factory=_Loaded, init=False, repr=False, compare=False)

    def generate(
        self,
        policy: PolicyModel,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        options: SamplingOptions,
    ) -> list[list[SampledTokens]]:
        """Load the adapter on the server if it has changed, then request the completions.

        The first call compares the log-probabilities of its longest completion with those of the trained model.

        Raises:
            ConfigError: the environment variable with the API key is not set.
            TrainingError: the server cannot be reached, refuses a request, returns no token ids, or returns
                log-probabilities that are not those of the trained model at the sampling temperature.
        """
        with self._client(self.timeout) as client:
            self._update(client, policy)
            complete = partial(self._complete, client, options)
            requests = [
                (prompt, seed) for prompt, group in zip(prompts, seeds, strict=True) for seed in group
            ]
            with ThreadPoolExecutor(self.max_concurrency, "requests") as pool:
                tokens = list(pool.map(complete, *zip(*requests, strict=True)) if requests else [])
            if tokens and not self._loaded.is_checked:
                index = max(range(len(tokens)), key=lambda index: len(tokens[index].ids))
                self._check(client, policy, requests[index][0], tokens[index], options.temperature)
                self._loaded.is_checked = True
        remaining = iter(tokens)
        return [[next(remaining) for _ in group] for group in seeds]

    def close(self) -> None:
        """Unload the adapter from the server, and remove its folder; a server failure only logs a warning."""
        loaded = self._loaded
        if loaded.folder is None:
            return
        try:
            with self._client(min(self.timeout, _CLOSE_TIMEOUT)) as client:
                self._unload(client, loaded.name)
        except XftError as error:
            console.info(f"warning: the adapter {loaded.name} stays on the server: {error}")
        shutil.rmtree(loaded.folder.parent, ignore_errors=True)
        loaded.version, loaded.name, loaded.folder = -1, "", None

    def _check(
        self,
        client: ServerClient,
        policy: PolicyModel,
        prompt: Sequence[int],
        tokens: SampledTokens,
        temperature: float,
    ) -> None:
        """Compare the log-probabilities of a completion with those of the trained model. Collective if sharded."""
        values = torch.tensor(tokens.log_probs)
        gap, raw_gap = (
            float((values - completion_log_probs(policy.model, prompt, tokens.ids, divisor)).abs().mean())
            for divisor in (temperature, 1.0)
        )
        got = f"log-probabilities that differ from those of the trained model by {gap:.3g} nats per token"
        if gap > _MIN_GAP and raw_gap < gap / 2:
            expected = f"those at rollout.temperature={temperature:g}; these are at temperature 1"
            raise client.error(got, expected, _SCALED[self.server])
        if not gap <= self.max_log_prob_gap:
            expected = f"at most {self.max_log_prob_gap:g} (rollout.engine.max_log_prob_gap)"
            fix = "serve the base model of the config, in the same precision"
            raise client.error(got, expected, fix)

    def _client(self, timeout: float) -> ServerClient:
        hint = _START[self.server]
        return ServerClient(self.url, timeout, self.retries, self.max_concurrency, self.api_key_env, hint)

    def _update(self, client: ServerClient, policy: PolicyModel) -> None:
        """Load the adapter under a new name, and unload the previous one. Collective."""
        loaded = self._loaded
        if loaded.version == policy.version:
            return
        folder = policy.run_dir / FOLDER / str(policy.version)
        policy.save(folder)
        loaded.name, loaded.base = policy.run_on_rank_0(lambda: self._load(client, folder))
        loaded.version = policy.version

    def _load(self, client: ServerClient, folder: Path) -> tuple[str, str]:
        loaded, prefix = self._loaded, _LORA_PATHS[self.server]
        base = loaded.base or self.model or self._first_model(client)
        # Why a new name: servers keep prefix caches by the name of the adapter.
        name = f"xft-{uuid.uuid4().hex[:12]}"
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        client.request(f"{prefix}load_lora_adapter", body, retries=0)
        previous, loaded.name, loaded.folder = loaded.name, name, folder
        if previous:
            self._unload(client, previous)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
        return name, base

    def _unload(self, client: ServerClient, name: str) -> None:
        path = f"{_LORA_PATHS[self.server]}unload_lora_adapter"
        client.request(path, {"lora_name": name}, retries=0)

    def _first_model(self, client: ServerClient) -> str:
        response = client.request("/v1/models")
        try:
            return str(response["data"][0]["id"])
        except (LookupError, TypeError):
            raise client.error(f"{str(response)[:200]} as its models", "a list with a model") from None

    def _complete(
        self, client: ServerClient, options: SamplingOptions, prompt: Sequence[int], seed: int
    ) -> SampledTokens:
        loaded = self._loaded
        response = client.request(
            "/v1/completions",
            {
                "model": f"{loaded.base}:{loaded.name}" if self.server == "sglang" else loaded.name,
                "prompt": list(prompt),
                "max_tokens": options.max_new_tokens,
                "min_tokens": 0,
                "stop_token_ids": list(options.stop_ids),
                # Only the stop tokens of the template end a completion. SGLang ignores these together with the EOS;
                # completions of the dry run have none.
                "ignore_eos": self.server == "vllm" or not options.stop_ids,
                "n": 1,
                "seed": seed % 2**31,
                "temperature": options.temperature,
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "logprobs": 1,
                "return_token_ids": True,
            },
        )
        return _read_choice(client, response, prompt, options.stop_ids)


def _read_choice(
    client: ServerClient, response: Mapping[str, Any], prompt: Sequence[int], stop_ids: Sequence[int]
) -> SampledTokens:
    try:
        (choice,) = response["choices"]
        ids = [int(token) for token in choice["token_ids"]]
        log_probs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
    except (LookupError, TypeError, ValueError):
        raise client.error(
            f"a response without token ids and log-probabilities ({str(dict(response))[:200]})",
            "choices[0].token_ids and choices[0].logprobs.token_logprobs",
            "use a server that supports return_token_ids, such as vLLM 0.10.2",
        ) from None
    if not ids or len(ids) != len(log_probs):
        raise client.error(
            f"{len(ids)} ids, {len(log_probs)} log-probabilities", "the same number of each, at least one"
        )
    if (used := choice.get("prompt_token_ids")) is not None and list(used) != list(prompt):
        raise client.error("the ids of another prompt", "the prompt ids of the request")
    # The server returns no entropies; -log p of the sampled token is an unbiased estimate.
    entropies = [-value for value in log_probs]
    # Why not finish_reason: it is "length" if the last token before the limit is a stop token.
    return SampledTokens(ids, log_probs, entropies, ids[-1] in stop_ids)


_START = {
    "vllm": "start it with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --max-lora-rank 64 "
    "--logprobs-mode processed_logprobs`",
    "sglang": "start it with `python -m sglang.launch_server --model-path MODEL --enable-lora --max-lora-rank 64 "
    "--lora-target-modules all`",
}
_SCALED = {
    "vllm": "start it with `--logprobs-mode processed_logprobs`",
    "sglang": "start it without SGLANG_RETURN_ORIGINAL_LOGPROB",
}
