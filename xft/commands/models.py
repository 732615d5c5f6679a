"""``xft chat``, ``score`` and ``convert``: commands on a fine-tuned model."""

import argparse
import json
from pathlib import Path
from typing import Any

from xft.commands.shared import Command, add_load_in_bits, add_trust, importing, require_at_least
from xft.utils.console import echo


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a model")
    parser.add_argument("--adapter", metavar="PATH", help="adapter to load on the model")
    parser.add_argument("--prompt", nargs="+", metavar="TEXT", help="answer each of these once, and exit")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="show an image with the first message, or with each --prompt; may be repeated",
    )
    parser.add_argument(
        "--system",
        metavar="TEXT",
        help="system message before all others (default: data.system of the training; '' for none)",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=512,
        metavar="N",
        help="maximum number of tokens of an answer (default: 512)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="sampling temperature; 0 is greedy decoding (default: 0)",
    )
    parser.add_argument(
        "--compare-base",
        action="store_true",
        help="show the answers of the base model next to those with the adapter",
    )
    parser.add_argument(
        "--chat-template-kwargs",
        type=_json_object,
        default={},
        metavar="JSON",
        help="variables of the chat template, for instance '{\"enable_thinking\": false}'",
    )
    add_load_in_bits(parser)
    add_trust(parser)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a JSON object")
    return value


def _chat(arguments: argparse.Namespace) -> None:
    with importing():
        from xft.serving import chat_loop, open_session

    require_at_least(arguments, 1, "--max-new-tokens")
    require_at_least(arguments, 0, "--temperature")
    session = open_session(
        arguments.path,
        adapter=arguments.adapter,
        bits=arguments.load_in_bits,
        system=arguments.system,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        trust_remote_code=arguments.trust_remote_code,
        chat_template_kwargs=arguments.chat_template_kwargs,
    )
    for image in arguments.image:
        session.attach(image)
    base = session.without_adapter() if arguments.compare_base else None
    if arguments.prompt is None:
        chat_loop(session, base=base)
        return
    for prompt in arguments.prompt:
        if base is not None:
            echo(f"base>  {base.ask_once(prompt)}", flush=True)
        echo(("" if base is None else "tuned> ") + session.ask_once(prompt), flush=True)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a reward model"
    )
    parser.add_argument(
        "rows", metavar="FILE", help="rows of chosen and rejected, prompt and completion, or messages"
    )
    parser.add_argument(
        "--format", metavar="NAME", help="format of the rows (default: detected from their columns)"
    )
    parser.add_argument("--out", metavar="FILE", help="write the scores to FILE, one JSON object per row")
    add_load_in_bits(parser)
    add_trust(parser)


def _score(arguments: argparse.Namespace) -> None:
    from xft.evaluation.reward_scoring import score_rows

    for line in score_rows(
        arguments.path,
        arguments.rows,
        format=arguments.format,
        out=arguments.out,
        bits=arguments.load_in_bits,
        trust_remote_code=arguments.trust_remote_code,
    ):
        echo(line)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="RUN_OR_CHECKPOINT", help="a run folder, a checkpoint or an adapter"
    )
    parser.add_argument("out", metavar="OUT", help="output folder; must not exist")
    parser.add_argument("--merge", action="store_true", help="merge the adapter into the model")
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="dtype of the written weights",
    )
    parser.add_argument(
        "--gguf",
        nargs="?",
        const="q8_0",
        choices=("f32", "f16", "bf16", "q8_0"),
        help="write one file for llama.cpp and Ollama (without a type: q8_0)",
    )
    parser.add_argument(
        "--layout",
        choices=("original", "llama"),
        default="original",
        help="names of the weights of InternLM2 and Baichuan: those of the family, or of Llama (default: original)",
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the result to the hub")
    parser.add_argument("--public", action="store_true", help="with --push: make a new repository public")
    parser.add_argument(
        "--max-shard-size",
        default="5GB",
        metavar="SIZE",
        help="maximum size of a file of weights (default: 5GB)",
    )
    add_trust(parser)


def _convert(arguments: argparse.Namespace) -> None:
    with importing():
        from xft.export import convert, push

    if arguments.push is not None:
        push.check_push(
            arguments.push, arguments.source, merged=arguments.merge or arguments.gguf is not None
        )
    comparison = convert(
        arguments.source,
        arguments.out,
        merged=arguments.merge,
        dtype=arguments.dtype,
        max_shard_size=arguments.max_shard_size,
        trust_remote_code=arguments.trust_remote_code,
        gguf=arguments.gguf,
        layout=arguments.layout,
    )
    kind = "GGUF file" if arguments.gguf else "merged model" if arguments.merge else "model"
    echo(f"wrote the {kind} to {arguments.out}; {comparison.explain()}")
    if arguments.push is not None:
        echo(f"pushed to {push.push(Path(arguments.out), arguments.push, arguments.public)}")


CHAT = Command(
    "chat with a fine-tuned model",
    _add_chat,
    _chat,
    examples=(
        "xft chat runs/a",
        "xft chat runs/a --compare-base",
        'xft chat runs/a --image cat.png --prompt "What is this?"',
        'xft chat runs/a --prompt "Who are you?" "What is xft?"',
    ),
)
SCORE = Command(
    "score answers with a reward model",
    _add_score,
    _score,
    examples=(
        "xft score runs/reward my_pairs.jsonl",
        "xft score runs/reward my_pairs.jsonl --out scores.jsonl",
    ),
)
CONVERT = Command(
    "write a Hugging Face folder",
    _add_convert,
    _convert,
    examples=(
        "xft convert runs/a out --merge",
        "xft convert runs/a out --gguf",
        "xft convert runs/a out --merge --push owner/name",
    ),
)
