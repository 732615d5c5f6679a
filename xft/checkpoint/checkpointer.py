"""Interface of this package for the training loop: save, poll, load, close."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from xft.checkpoint.model_weights import (
    estimate_checkpoint_bytes,
    gather_cpu_state_dict,
    load_model_weights,
    make_weights_writer,
)
from xft.checkpoint.resume_state import ResumeState, RunState
from xft.checkpoint.shards import make_shard
from xft.checkpoint.snapshot import Snapshot, collect_training_state, load_training_state
from xft.checkpoint.state_tree import get_rng_state
from xft.checkpoint.weight_parts import WeightPart, assign_weights
from xft.checkpoint.writer import (
    AsyncCheckpointWriter,
    SaveRequest,
    SaveResult,
    ShardSaveRequest,
    WriteRequest,
    check_disk_space_for_run,
)
from xft.compat.peft import PeftModel
from xft.errors import CheckpointError
from xft.models import unwrap
from xft.strategies import Strategy


class Checkpointer:
    """Save checkpoints of a run in a background thread, and load a checkpoint.

    Args:
        root: the checkpoint directory.
        strategy: the strategy; its model need not be prepared yet.
        static_files: returns the content of each file of the saved model except the weights, by name.
        before_write: called in the writer thread before anything is written.
        loop_state: returns what the loop of this rank stores; ``None`` for nothing.
    """

    def __init__(
        self,
        root: Path,
        strategy: Strategy,
        static_files: Callable[[], Mapping[str, bytes]],
        before_write: Callable[[], None],
        loop_state: Callable[[], object] = lambda: None,
    ) -> None:
        self.root = root
        self._strategy = strategy
        self._static_files = static_files
        self._before_write = before_write
        self._loop_state = loop_state
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
        request = self.snapshot_run(state, save_total_limit, is_best, save_optimizer_state)
        if request is not None:
            self._writer.start(request)
        if block:
            self.wait()

    def snapshot_run(
        self, state: RunState, save_total_limit: int, is_best: bool, save_optimizer_state: bool
    ) -> WriteRequest | None:
        """Copy the state of the run to CPU memory. Collective.

        Returns:
            The request to write this rank's part; ``None`` if this rank writes nothing.
        """
        strategy = self._strategy
        rank_states = strategy.gather((get_rng_state(strategy.device), self._loop_state()))
        rng_states, loop_states = zip(*rank_states, strict=True)
        training, tensors, local = collect_training_state(
            strategy, rng_states, save_optimizer_state, self._tensors, loop_states
        )
        part = self._copy_weights()
        shard, shard_ranges = make_shard(strategy, state.step, local, part)
        self._tensors = shard.tensors if shard is not None else {}
        if strategy.rank != 0:
            return None if shard is None else ShardSaveRequest(shard, self.root, state.step)
        self._tensors = self._tensors | tensors
        snapshot = Snapshot(
            run=state,
            training=training,
            shard_ranges=shard_ranges,
            tensors=tensors,
            weights={} if part is not None else self._weights,
            static_files=self._static_files(),
            write_weights=make_weights_writer(self._model),
            shard=shard,
        )
        return SaveRequest(snapshot, self.root, save_total_limit, is_best, self._before_write)

    def _copy_weights(self) -> WeightPart | None:
        """Copy the weights of the saved model to CPU memory. Collective if they are sharded.

        Returns:
            This rank's part of the weights of a full model whose parameters are sharded. Otherwise ``None``: rank 0 has
            copies of all saved weights.
        """
        strategy, model = self._strategy, self._model
        if not strategy.params_are_sharded or isinstance(model, PeftModel):
            if strategy.rank == 0 or strategy.params_are_sharded:
                self._weights = gather_cpu_state_dict(
                    model, self._weights, strategy.summon_full_params, lambda _: strategy.rank == 0
                )
            return None
        assignments = assign_weights(model, strategy.world_size)
        self._weights = gather_cpu_state_dict(
            model,
            self._weights,
            strategy.summon_full_params,
            lambda name: assignments[name].rank == strategy.rank,
        )
        return WeightPart(strategy.rank, strategy.world_size, assignments, self._weights)

    @contextmanager
    def full_weights(self) -> Iterator[Mapping[str, Tensor]]:
        """Return a context with the weights of the saved model on rank 0, and an empty mapping on other ranks. Collective.

        If the parameters of a full model are sharded, the weights are partitioned among the ranks: each writes its part
        to a file, and rank 0 maps all files into memory.

        Raises:
            CheckpointError: a rank cannot write its part.
        """
        self.wait()
        part = self._copy_weights()
        if part is None:
            yield self._weights
            return
        strategy, created = self._strategy, ""
        if strategy.rank == 0:
            created = tempfile.mkdtemp(dir=self.root.parent, prefix=".final-weights-")
        folder = Path(strategy.gather(created)[0])
        problem = ""
        try:
            part.write(folder)
        except (OSError, SafetensorError) as error:
            problem = f"rank {strategy.rank} cannot write its weights: {error}"
        try:
            if problems := [text for text in strategy.gather(problem) if text]:
                raise CheckpointError(problems[0], key=str(folder), got=problems[0])
            yield part.open_all(folder) if strategy.rank == 0 else {}
        finally:
            if strategy.rank == 0:
                shutil.rmtree(folder, ignore_errors=True)

    def poll(self) -> SaveResult | None:
        """Return the result of a finished save that has not been returned before.

        Always ``None`` on ranks other than 0: rank 0 collects the shards of all ranks.
        """
        result = self._writer.poll()
        return result if self._strategy.rank == 0 else None

    def wait(self) -> None:
        """Wait for the save in progress."""
        self._writer.wait()

    def load(self, state: ResumeState) -> list[object]:
        """Load weights, optimizer, scheduler and random number generators of a checkpoint. Collective.

        Returns:
            What the loop of each rank stored; empty for nothing.

        Raises:
            CheckpointError: the checkpoint is corrupt, belongs to another model, or has no optimizer state.
        """
        return load_training_state(state, self._strategy)

    def load_weights(self, folder: Path) -> None:
        """Load only the weights of a checkpoint. Collective.

        Raises:
            CheckpointError: the checkpoint belongs to another model, or has no valid manifest or no weights.
            RuntimeError: a parameter shape differs.
            OSError, SafetensorError: a file cannot be read.
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
