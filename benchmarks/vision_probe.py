"""Measure what a linear classifier answers about the held-out pictures of the vision demo: a bound for its model.

    python benchmarks/vision_probe.py --seeds 0 1 2          # about a minute

The classifier sees the features of the frozen encoder, averaged over the picture, and learns the answers of the rows that
`bench_vision.py` trains with. Its weight decay is chosen on the held-out pictures, in favor of the classifier.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xft.data.emoji.rows import COLOR, KIND, NAMES, write_rows
from xft.models.bundled_encoder import unpack
from xft.models.vision.encoder import load_encoder

QUESTIONS = {"kind": KIND, "color": COLOR}
WEIGHT_DECAYS = (1e-3, 1e-2, 1e-1, 1.0)
BATCH = 64


def read_answers(file: Path) -> dict[str, dict[str, str]]:
    """Return the answers about each picture, by question."""
    answers: dict[str, dict[str, str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts = [message["content"] for message in row["messages"]]
        questions = [text.removeprefix("<image>").strip() for text in texts[::2]]
        answers.setdefault(row["images"][0], {}).update(zip(questions, texts[1::2], strict=True))
    return answers


def read_features(files: list[Path]) -> Tensor:
    """Return ``(pictures, channels)`` features."""
    encoder, processor = load_encoder(str(unpack()))
    features = []
    for start in range(0, len(files), BATCH):
        pictures = [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]
        with torch.no_grad():
            maps = encoder.eval()(**processor(images=pictures, return_tensors="pt")).last_hidden_state
        features.append(maps.flatten(2).mean(dim=2))
    return torch.cat(features)


def fit(inputs: Tensor, labels: Tensor, num_classes: int, weight_decay: float) -> nn.Linear:
    """Return a linear classifier that minimizes the cross-entropy with L-BFGS."""
    torch.manual_seed(0)
    classifier = nn.Linear(inputs.shape[1], num_classes)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=200)

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = weight_decay * classifier.weight.square().sum() / len(inputs)
        value = cross_entropy(classifier(inputs), labels) + penalty
        value.backward()
        return value

    optimizer.step(loss)
    return classifier


def measure(folder: Path, seed: int) -> dict[str, float]:
    """Return the fraction of right answers to each question."""
    write_rows(folder, seed)
    train, val = (read_answers(folder / name) for name in NAMES[:2])
    inputs, held_out = (read_features([folder / name for name in answers]) for answers in (train, val))
    mean, std = inputs.mean(dim=0), inputs.std(dim=0) + 1e-6
    inputs, held_out = (inputs - mean) / std, (held_out - mean) / std
    results = {}
    for name, question in QUESTIONS.items():
        train_rows = [number for number, answers in enumerate(train.values()) if question in answers]
        val_rows = [number for number, answers in enumerate(val.values()) if question in answers]
        texts = [answers[question] for answers in train.values() if question in answers]
        references = [answers[question] for answers in val.values() if question in answers]
        classes = sorted({*texts})
        labels = torch.tensor([classes.index(text) for text in texts])
        scores = []
        for weight_decay in WEIGHT_DECAYS:
            classifier = fit(inputs[train_rows], labels, len(classes), weight_decay)
            chosen = classifier(held_out[val_rows]).argmax(dim=1).tolist()
            right = sum(classes[index] == text for index, text in zip(chosen, references, strict=True))
            scores.append(right / len(references))
        results[name] = max(scores)
    return results


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    print("| seed | kind | color |\n|---|--:|--:|")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder), seed)
        print(f"| {seed} | {results['kind']:.0%} | {results['color']:.0%} |", flush=True)


if __name__ == "__main__":
    main()
