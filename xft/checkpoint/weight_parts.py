"""Divide the weights of a sharded model among the ranks that save it.

An ordinary model folder is written by one process. Copies of all weights may not fit into its memory: each rank copies and
writes a part of about equal size, and rank 0 maps the files of all parts into its memory, where the system keeps only the
pages that are being read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xft.models.param_shapes import full_nbytes


@dataclass(frozen=True)
class WeightPlace:
    """Where a weight is written.

    Attributes:
        rank: rank that writes it.
        name: name in the file of the rank: the first name of a tied weight, which is written once.
    """

    rank: int
    name: str


def assign_weights(model: nn.Module, world_size: int) -> dict[str, WeightPlace]:
    """Assign each weight of a model to a rank, in parts that differ by at most one weight; equal on all ranks."""
    sizes = [0] * world_size
    places: dict[int, WeightPlace] = {}
    by_name: dict[str, WeightPlace] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in places:
            rank = sizes.index(min(sizes))
            sizes[rank] += full_nbytes(tensor)
            places[id(tensor)] = WeightPlace(rank, name)
        by_name[name] = places[id(tensor)]
    return by_name


@dataclass(frozen=True)
class WeightPart:
    """The weights that this rank writes.

    Attributes:
        rank: rank of this process.
        world_size: number of ranks.
        places: place of each weight of the model.
        weights: copies in CPU memory of this rank's weights, by name.
    """

    rank: int
    world_size: int
    places: Mapping[str, WeightPlace]
    weights: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Size of the part in bytes."""
        return sum(tensor.nbytes for tensor in self._written().values())

    def _written(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.weights.items() if self.places[name].name == name}

    def _file(self, folder: Path, rank: int) -> Path:
        return folder / f"weights-{rank + 1:05}-of-{self.world_size:05}.safetensors"

    def write(self, folder: Path) -> Path:
        """Write the part, and return its file.

        Raises:
            OSError, SafetensorError: the file cannot be written to disk.
        """
        path = self._file(folder, self.rank)
        save_file(self._written(), path)
        return path

    def open_all(self, folder: Path) -> dict[str, Tensor]:
        """Map the parts of all ranks into memory, and return the weights in the order of the model."""
        files = [load_file(self._file(folder, rank)) for rank in range(self.world_size)]
        return {name: files[place.rank][place.name] for name, place in self.places.items()}
