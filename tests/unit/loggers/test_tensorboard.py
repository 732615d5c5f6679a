from pathlib import Path

from helpers.resumed_logger import CONFIG, EXPECTED_LOSSES, write_killed_and_resumed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xft.loggers import TensorBoard


def _events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def _text(events: EventAccumulator, tag: str, index: int = 0) -> str:
    return bytes(events.Tensors(tag)[index].tensor_proto.string_val[0]).decode()


def test_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    write_killed_and_resumed(TensorBoard, tmp_path)
    events = _events(tmp_path)
    assert [(scalar.step, scalar.value) for scalar in events.Scalars("train/loss")] == EXPECTED_LOSSES
    assert [text.step for text in events.Tensors("generations/text_summary")] == [2, 4, 6, 8]
    assert "| 6.0 |" in _text(events, "generations/text_summary", 2)


def test_new_run_deletes_events_of_an_earlier_run(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        logger = TensorBoard(tmp_path, CONFIG)
        logger.record({"step": 1, "split": "train", "loss": loss})
        logger.close()
    assert [scalar.value for scalar in _events(tmp_path).Scalars("train/loss")] == [2.0]


def test_generations_escape_cell_separators_and_lines(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path, CONFIG)
    logger.generations(
        3, [{"question": "a|b", "answer": "one\ntwo", "reference": None, "score": None, "stopped": True}]
    )
    logger.close()
    table = _text(_events(tmp_path), "generations/text_summary")
    assert table.splitlines()[-1] == r"| a\|b | one<br>two |  |  |"


def test_config_and_data_report_are_logged(tmp_path: Path) -> None:
    (tmp_path / "data_report.json").write_text('{"rows": 3}', encoding="utf-8")
    TensorBoard(tmp_path, CONFIG).close()
    events = _events(tmp_path)
    assert "somewhere" in _text(events, "config/text_summary")
    assert '{"rows": 3}' in _text(events, "data_report/text_summary")
