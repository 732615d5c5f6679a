"""A stand-in for vLLM or SGLang: completions of a tiny model, with adapters that are loaded and unloaded."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@dataclass
class StandIn:
    """State of the server, which tests read and change.

    Attributes:
        base: folder of the base model.
        prefix: of the paths that load and unload adapters.
        requests: path and body of every request.
        loaded: adapters by name.
        failures: status codes of the next answers; 0 waits for ``delay`` seconds.
        changes: overrides fields of each choice; ``None`` removes one.
        eos_token_id: ends a completion unless the request ignores it, as the EOS of a model does.
        ignores_temperature: return log-probabilities of the logits before the temperature, as vLLM does by default.
    """

    base: Path
    prefix: str = "/v1"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    loaded: dict[str, PeftModel] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    delay: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)
    eos_token_id: int | None = None
    ignores_temperature: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request. Returns the status and the JSON of the response, or a text."""
        self.requests.append((path, body))
        if self.failures:
            status = self.failures.pop(0)
            if status:
                return status, {"error": {"message": "not now"}}
            time.sleep(self.delay)
        if path == "/v1/models":
            return 200, {"data": [{"id": "base"}, *({"id": name} for name in self.loaded)]}
        if path == f"{self.prefix}/load_lora_adapter":
            model = AutoModelForCausalLM.from_pretrained(self.base)
            self.loaded[body["lora_name"]] = PeftModel.from_pretrained(model, body["lora_path"]).eval()
            return 200, f"Success: LoRA adapter {body['lora_name']!r} added"
        if path == f"{self.prefix}/unload_lora_adapter":
            del self.loaded[body["lora_name"]]
            return 200, "Success"
        if path == "/v1/completions":
            name = body["model"].removeprefix("base:")
            if name not in self.loaded:
                return 404, {"error": {"message": f"The model {name!r} does not exist."}}
            with self.lock:
                return 200, {"choices": [self._complete(self.loaded[name], body)]}
        return 404, {"detail": "Not Found"}

    @torch.no_grad()
    def _complete(self, model: PeftModel, body: dict[str, Any]) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(body["seed"])
        ids, log_probs = list(body["prompt"]), []
        reason = "length"
        while len(log_probs) < body["max_tokens"]:
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            distribution = (logits / body["temperature"]).log_softmax(dim=-1)
            token = int(torch.multinomial(distribution.exp(), 1, generator=generator))
            ids.append(token)
            returned = logits.log_softmax(dim=-1) if self.ignores_temperature else distribution
            log_probs.append(float(returned[token]))
            is_eos = token == self.eos_token_id and not body["ignore_eos"]
            if is_eos or token in body["stop_token_ids"]:
                reason = "stop"
                break
        choice = {
            "text": "",
            "finish_reason": reason,
            "token_ids": ids[len(body["prompt"]) :],
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": log_probs},
        }
        return {key: value for key, value in (choice | self.changes).items() if value is not None}


@contextmanager
def stand_in_server(base: Path, prefix: str = "/v1") -> Iterator[tuple[str, StandIn]]:
    """Serve a stand-in on a loopback address; yield the address and the state."""
    state = StandIn(base, prefix)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(*state.answer(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*state.answer(self.path, body))

        def _send(self, status: int, content: Any) -> None:
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):  # The client has given up.
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
