"""Partition the weights of a sharded model among the ranks that save it.

The folder of a full model is written by one process, and copies of all weights may not fit into its memory. Therefore each
rank copies and writes a part of about equal size, and rank 0 maps the files of all parts into memory: the operating system
loads only the pages that are being read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xft.models.param_shapes import full_nbytes


@dataclass(frozen=True)
class WeightAssignment:
    """The rank that writes a weight, and the name under which it does.

    Attributes:
        rank: rank that writes the weight.
        name: name in the file of this rank: the first name of a tied weight, which is written once.
    """

    rank: int
    name: str


def assign_weights(model: nn.Module, world_size: int) -> dict[str, WeightAssignment]:
    """Assign each weight of a model to a rank; return the assignments by weight name.

    Part sizes differ by at most the largest weight. Every rank computes the same assignments.
    """
    sizes = [0] * world_size
    by_tensor: dict[int, WeightAssignment] = {}
    by_name: dict[str, WeightAssignment] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in by_tensor:
            rank = sizes.index(min(sizes))
            sizes[rank] += full_nbytes(tensor)
            by_tensor[id(tensor)] = WeightAssignment(rank, name)
        by_name[name] = by_tensor[id(tensor)]
    return by_name


@dataclass(frozen=True)
class WeightPart:
    """The weights that this rank writes.

    Attributes:
        rank: rank of this process.
        world_size: number of ranks.
        assignments: result of :func:`assign_weights`.
        weights: copies in CPU memory of this rank's weights, by name.
    """

    rank: int
    world_size: int
    assignments: Mapping[str, WeightAssignment]
    weights: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Size of the part in bytes."""
        return sum(tensor.nbytes for tensor in self._written().values())

    def _written(self) -> dict[str, Tensor]:
        return {
            name: tensor for name, tensor in self.weights.items() if self.assignments[name].name == name
        }

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
        """Map the parts of all ranks into memory, and return all weights in the order of the model.

        Raises:
            OSError, SafetensorError: a file cannot be read.
        """
        files = [load_file(self._file(folder, rank)) for rank in range(self.world_size)]
        return {name: files[item.rank][item.name] for name, item in self.assignments.items()}
