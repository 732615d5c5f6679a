"""Weights are partitioned among ranks, written once each, and mapped back in the order of the model."""

from pathlib import Path

import torch
from torch import nn

from xft.checkpoint.weight_parts import WeightPart, assign_weights


class Tied(nn.Module):
    """Two layers with one weight, other layers, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.ones(()))


def _parts(model: nn.Module, world_size: int) -> list[WeightPart]:
    assignments = assign_weights(model, world_size)
    state = model.state_dict()
    return [
        WeightPart(
            rank,
            world_size,
            assignments,
            {name: state[name] for name in assignments if assignments[name].rank == rank},
        )
        for rank in range(world_size)
    ]


def test_parts_differ_by_at_most_the_largest_weight_and_tied_weights_count_once() -> None:
    model = Tied()
    sizes = [part.nbytes for part in _parts(model, 2)]
    assert sum(sizes) == 4 * (36 + 3 * 20 + 1)
    assert abs(sizes[0] - sizes[1]) <= model.embedding.weight.nbytes
    assert len({item.rank for item in assign_weights(model, 2).values()}) == 2


def test_written_parts_are_the_weights_of_the_model_in_its_order(tmp_path: Path) -> None:
    model = Tied()
    for world_size in (1, 2, 20):  # more ranks than weights
        parts = _parts(model, world_size)
        files = [part.write(tmp_path) for part in parts]
        assert len(set(files)) == world_size
        weights = parts[0].open_all(tmp_path)
        state = model.state_dict()
        assert list(weights) == list(state)
        assert all(torch.equal(weights[name], state[name]) for name in state)
        assert weights["head.weight"] is weights["embedding.weight"]
