"""Compare `xft serve` with plain generation of one answer after another: tokens per second.

    python benchmarks/bench_serve.py runs/a --clients 16 --tokens 64

Clients send one question each at the same time. The server decodes up to --clients answers together. The baseline is
`generate` of transformers with the adapter of peft, one question at a time, with the same prompts, on the same threads.
Both decode greedily, and only complete answers count. The two alternate in --rounds rounds.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

TOPICS = (
    "chess",
    "camping",
    "birds",
    "guitars",
    "plastic",
    "planets",
    "cats",
    "knitting",
    "the sea",
    "parties",
)


def questions(count: int) -> list[str]:
    """Return questions of similar length."""
    return [
        f"Tell me something about {TOPICS[number % len(TOPICS)]}, part {number}." for number in range(count)
    ]


@contextmanager
def serving(run: str, batch_size: int) -> Iterator[str]:
    """Start a server, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "xft",
        "serve",
        run,
        "--port",
        str(port),
        "--max-batch-size",
        str(batch_size),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/v1/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        if server.poll() is not None:
            sys.exit("the server ended early")
        yield address
    finally:
        server.terminate()
        server.wait()


def ask(address: str, question: str, tokens: int) -> int:
    """Ask one question. Return the number of generated tokens."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=60) as response:
        model = json.load(response)["data"][0]["id"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return int(json.load(response)["usage"]["completion_tokens"])


def served_rate(address: str, arguments: argparse.Namespace) -> float:
    """Return the tokens per second of all clients."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(arguments.clients) as clients:
        counts = clients.map(
            lambda text: ask(address, text, arguments.tokens), questions(arguments.clients)
        )
        return sum(counts) / (time.perf_counter() - begun)


def plain_rate(session: Any, arguments: argparse.Namespace) -> float:
    """Return the tokens per second of plain generation, on a quarter of the questions."""
    import torch

    from xft.types import Message

    generator = session.generator
    system = [Message("system", session.system)] if session.system else []
    begun, count = time.perf_counter(), 0
    for question in questions(max(arguments.clients // 4, 1)):
        ids = torch.tensor([generator.encode([*system, Message("user", question)])])
        with torch.no_grad():
            output = generator.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=arguments.tokens,
                do_sample=False,
                eos_token_id=generator.stop_ids,
                pad_token_id=generator.tokenizer.pad_token_id,
            )
        count += output.shape[1] - ids.shape[1]
    return count / (time.perf_counter() - begun)


def main() -> None:
    """Alternate both, and print their speed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="maximum number of tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    from xft.serving.session import open_session

    session = open_session(arguments.run)
    ratios = []
    with serving(arguments.run, arguments.clients) as address:
        served_rate(address, arguments)  # warm-up
        for number in range(1, arguments.rounds + 1):
            plain, served = plain_rate(session, arguments), served_rate(address, arguments)
            ratios.append(served / plain)
            print(
                f"round {number}   plain {plain:6.1f} tokens/s   served {served:6.1f} tokens/s", flush=True
            )
    print(f"served / plain: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
