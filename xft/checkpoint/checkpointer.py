"""Interface of this package for the training loop: save, poll, load, close."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor, nn

from xft.checkpoint.model_weights import (
    estimate_checkpoint_bytes,
    gather_cpu_state_dict,
    load_model_weights,
    weights_writer,
)
from xft.checkpoint.resume_state import ResumeState, RunState
from xft.checkpoint.shards import make_shard
from xft.checkpoint.snapshot import Snapshot, collect_training_state, load_training_state
from xft.checkpoint.state_tree import get_rng_state
from xft.checkpoint.writer import (
    AsyncCheckpointWriter,
    SaveRequest,
    SaveResult,
    ShardSaveRequest,
    WriteRequest,
    check_disk_space_for_run,
)
from xft.models import unwrap
from xft.strategies import Strategy


class Checkpointer:
    """Save checkpoints of a run in a background thread, and load a checkpoint.

    Args:
        root: the checkpoint directory.
        strategy: the strategy; its model need not be prepared yet.
        static_files: returns the content of each file of the saved model except the weights, by name.
        before_write: called in the writer thread before anything is written.
    """

    def __init__(
        self,
        root: Path,
        strategy: Strategy,
        static_files: Callable[[], Mapping[str, bytes]],
        before_write: Callable[[], None],
    ) -> None:
        self.root = root
        self._strategy = strategy
        self._static_files = static_files
        self._before_write = before_write
        self._writer = AsyncCheckpointWriter()
        # The memory of the last snapshot is reused by the next one.
        self._tensors: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def save(
        self,
        state: RunState,
        save_total_limit: int,
        is_best: bool = False,
        save_optimizer_state: bool = True,
        block: bool = False,
    ) -> None:
        """Copy the state of the run and write the copy in a thread. Collective.

        Waits for a save in progress first. The result is returned by :meth:`poll`.

        Args:
            state: position and settings of the run.
            save_total_limit: number of newest checkpoints to keep.
            is_best: whether to point the symlink ``best`` at this checkpoint.
            save_optimizer_state: whether to save the optimizer state.
            block: whether to wait until the checkpoint is written.
        """
        self.wait()
        request = self.copy_run(state, save_total_limit, is_best, save_optimizer_state)
        if request is not None:
            self._writer.start(request)
        if block:
            self.wait()

    def copy_run(
        self, state: RunState, save_total_limit: int, is_best: bool, save_optimizer_state: bool
    ) -> WriteRequest | None:
        """Copy the state of the run to CPU memory. Collective.

        Returns:
            The request to write this rank's part; ``None`` if this rank writes nothing.
        """
        strategy = self._strategy
        rng_states = strategy.gather(get_rng_state(strategy.device))
        training, tensors, local = collect_training_state(
            strategy, rng_states, save_optimizer_state, self._tensors
        )
        shard, spans = make_shard(strategy, state.step, local)
        self._weights = self.copy_weights(self._weights)
        self._tensors = shard.tensors if shard is not None else {}
        if strategy.rank != 0:
            return None if shard is None else ShardSaveRequest(shard, self.root, state.step)
        self._tensors = self._tensors | tensors
        snapshot = Snapshot(
            run=state,
            training=training,
            spans=spans,
            tensors=tensors,
            weights=self._weights,
            static_files=self._static_files(),
            write_weights=weights_writer(self._model),
            shard=shard,
        )
        return SaveRequest(snapshot, self.root, save_total_limit, is_best, self._before_write)

    def copy_weights(self, reuse: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, Tensor]:
        """Copy the weights of the saved model to CPU memory on rank 0. Collective if they are sharded."""
        strategy = self._strategy
        if strategy.rank != 0 and not strategy.params_are_sharded:
            return {}
        return gather_cpu_state_dict(
            self._model, reuse, strategy.summon_full_params, keep=strategy.rank == 0
        )

    def poll(self) -> SaveResult | None:
        """Return the result of a finished save that has not been returned before.

        Always ``None`` on ranks other than 0: rank 0 collects the shards of all ranks.
        """
        result = self._writer.poll()
        return result if self._strategy.rank == 0 else None

    def wait(self) -> None:
        """Wait for the save in progress."""
        self._writer.wait()

    def load(self, state: ResumeState) -> None:
        """Load weights, optimizer, scheduler and random number generators of a checkpoint. Collective.

        Raises:
            CheckpointError: the checkpoint is corrupt, belongs to another model, or has no optimizer state.
        """
        load_training_state(state, self._strategy)

    def load_weights(self, folder: Path) -> None:
        """Load only the weights of a checkpoint. Collective.

        Raises:
            CheckpointError: the checkpoint belongs to another model.
        """
        load_model_weights(self._model, folder, self._strategy)

    def check_disk_space(self, save_total_limit: int, save_optimizer_state: bool) -> None:
        """Check that there is enough disk space for all checkpoints of the run, by their estimated size.

        Raises:
            ConfigError: there is too little disk space.
        """
        static = sum(map(len, self._static_files().values()))
        size = estimate_checkpoint_bytes(self._model, save_optimizer_state) + static
        check_disk_space_for_run(self.root, size, save_total_limit)

    def close(self, cancel: bool = False) -> None:
        """Finish the save in progress, or cancel it without waiting for its thread."""
        if cancel:
            self._writer.cancel()
            return
        try:
            self.wait()
        except KeyboardInterrupt:
            self._writer.cancel()
            raise

    @property
    def _model(self) -> nn.Module:
        return unwrap(self._strategy.model).model
