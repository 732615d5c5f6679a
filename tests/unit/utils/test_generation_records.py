"""Which records of generations answer the same sample question."""

from typing import Any

from xft.utils.generation_records import group_by_prompt, title_of


def record(step: int, answer: str, **more: Any) -> dict[str, Any]:
    return {"step": step, "question": "What is this?", "answer": answer, **more}


def answers(*records: dict[str, Any]) -> list[list[str]]:
    return [[row["answer"] for row in group] for group in group_by_prompt(records).values()]


def test_same_question_about_other_images_is_another_prompt() -> None:
    rows = [
        record(step, f"{name} {step}", images=[f"{name}.png"]) for step in (0, 8) for name in ("cat", "dog")
    ]
    assert answers(*rows) == [["cat 0", "cat 8"], ["dog 0", "dog 8"]]


def test_equal_prompts_are_told_apart_by_their_order() -> None:
    rows = [record(step, f"{name}{step}", reference=name) for step in (8, 0) for name in "ab"]
    assert answers(*rows) == [["a0", "a8"], ["b0", "b8"]]


def test_system_message_is_part_of_the_prompt() -> None:
    assert answers(record(0, "a", system="Be brief."), record(0, "b"), record(4, "c")) == [
        ["a"],
        ["b", "c"],
    ]


def test_title_names_the_images() -> None:
    assert title_of("What is this?", ["pictures/cat.png", "dog.png"]) == "What is this? [cat.png, dog.png]"
    assert title_of("Why?", []) == "Why?"
