"""What is said before the first step, on one screen."""

from pathlib import Path

from xft.data import Prepared
from xft.engine.plan import TrainingPlan
from xft.engine.recipe import Recipe
from xft.engine.report import oddities
from xft.models import LoadedModel
from xft.models.sizes import num_weights
from xft.templates import BoundTemplate


def banner(
    recipe: Recipe,
    loaded: LoadedModel,
    prepared: Prepared,
    plan: TrainingPlan,
    template: BoundTemplate | None,
    work_dir: Path,
) -> list[str]:
    """Lines about model, data, portions and place."""
    ledger = prepared.ledger
    train, val = ledger.splits["train"], ledger.splits["val"]
    batches = plan.batches
    dropped = "".join(f", {count} dropped ({reason})" for reason, count in ledger.rows_dropped.items())
    cut = f", {ledger.rows_truncated} cut to length" if ledger.rows_truncated else ""
    packed = f"packed into rows of {batches.capacity} tokens" if batches.capacity else "not packed"
    ranks = f" x {batches.world_size} ranks" if batches.world_size > 1 else ""
    lines = [
        f"model     {recipe.model.path}, {_how(recipe, loaded)}",
        f"trained   {_count(loaded)}",
        f"rows      {ledger.rows_read} read = {ledger.rows_trained} to train on + {ledger.rows_validated} to "
        f"validate on{dropped}{cut}",
        f"tokens    {train['tokens']:,} in training, {train['target_tokens']:,} of them trained "
        f"({train['target_share']:.0%}); {val['tokens']:,} in validation",
        f"lengths   p50 {train['length']['p50']}, p95 {train['length']['p95']}, "
        f"longest {train['length']['max']} of {recipe.data.max_length}; {packed}",
        f"steps     {plan.num_steps} = {_epochs(plan)} epochs x {batches.steps_per_epoch}; a step is "
        f"{batches.batch_size} rows x {batches.accumulation} accumulated{ranks}",
        f"run       {work_dir}",
    ]
    if template is not None and prepared.train:
        lines.insert(6, f"sample    {_example(prepared, loaded)}")
    if not prepared.val:
        lines.append("warning: no validation: nothing will say when the model begins to learn by heart")
    if template is not None and template.dated:
        lines.append("note: the chat template writes the date, and the data has that of its preparation")
    lines += [f"note: {count:,} rows {phrase}" for count, phrase in oddities(ledger)]
    return lines + [f"note: {each}" for each in plan.notes]


def _how(recipe: Recipe, loaded: LoadedModel) -> str:
    dtype = str(loaded.base.dtype).removeprefix("torch.")
    bits = (
        f"base in {recipe.model.quantization.bits} bits, " if recipe.model.quantization is not None else ""
    )
    checkpointing = ", gradient checkpointing" if recipe.model.gradient_checkpointing else ""
    return f"{bits}{dtype} on {loaded.base.device}{checkpointing}"


def _count(loaded: LoadedModel) -> str:
    trained = sum(num_weights(each) for each in loaded.model.parameters() if each.requires_grad)
    total = sum(num_weights(each) for each in loaded.model.parameters())
    return f"{trained:,} of {total:,} weights ({trained / total:.2%})"


def _epochs(plan: TrainingPlan) -> str:
    return f"{plan.num_steps / plan.batches.steps_per_epoch:.3g}"


def _example(prepared: Prepared, loaded: LoadedModel, length: int = 150) -> str:
    ids = prepared.train[0].input_ids
    text = str(loaded.tokenizer.decode(ids, skip_special_tokens=False)).replace("\n", "⏎")
    return text if len(text) <= length else text[: length - 40] + " … " + text[-37:]
