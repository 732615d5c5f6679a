"""Rules of format detection: for each kind of data, the formats that may fit, by names and kinds of columns."""

from collections.abc import Callable, Mapping, Sequence

from xft.data.formats.row_shape import MIN_FRACTION, TURNS, RowShape
from xft.types import Row

Spec = Mapping[str, str]
"""A format as a config gives it: ``type``, and names of columns."""
QUESTION = (
    *("question", "prompt", "query", "instruction", "user", "human", "input", "problem", "request"),
    *("问题", "提问", "指令", "输入"),
)
ANSWER = (
    *("answer", "response", "completion", "output", "assistant", "reply", "solution", "target"),
    *("回答", "答案", "回复", "输出"),
)
OTHER_QUESTION = (
    *(
        "user_message",
        "user_input",
        "user_query",
        "user_prompt",
        "question_text",
        "message",
        "text",
        "content",
    ),
    *("task", "ticket", "email", "comment", "customer", "source", "sentence", "utterance", "q"),
    *("消息", "用户", "客户", "原文"),
)
OTHER_ANSWER = (
    *("assistant_message", "assistant_response", "model_response", "model_output", "bot", "bot_response"),
    *("chatbot", "agent", "ai", "gpt", "answer_text", "final_answer", "best_answer", "correct_answer", "a"),
    *("expected", "expected_output", "expected_answer", "ground_truth", "gold", "reference", "result"),
    *("summary", "translation", "答复", "助手", "客服", "译文", "摘要"),
)
"""Names that count where no column has one of those above: next to a known name, they mean a question or an answer."""
TASKS = (
    *(("text", "summary"), ("article", "summary"), ("document", "summary"), ("dialogue", "summary")),
    *(("article", "highlights"), ("source", "translation"), ("customer", "agent"), ("q", "a")),
    *(("原文", "译文"), ("原文", "摘要"), ("用户", "助手"), ("客户", "客服")),
)
"""Pairs of such names that mean a question and its answer without a known name."""
CONTEXT = ("input", "context", "passage", "document", "article", "背景", "上下文")
SYSTEM = ("system", "system_prompt", "system_message", "系统")
TEXT = ("text", "content", "body", "document", "article", "markdown", "code", "raw_content", "文本", "正文")
LABEL = ("label", "kto_tag")
PAIRS = (
    *(("chosen", "rejected"), ("accepted", "rejected")),
    *(("response_chosen", "response_rejected"), ("messages", "rejected_messages")),
)
"""Names of columns, in lower case, with underscores for spaces."""

PREFERENCE_ROWS = ("preference pairs", "use --method dpo or orpo (data.type=preference objective=dpo)")
LABELED_ROWS = (
    "answers with a label",
    "use --method kto (data.type=unpaired_preference objective=kto), or name the format to train on all answers",
)
TEXT_ROWS = ("raw text", "use --method pretrain (data.type=text objective=pretrain)")
CHAT_ROWS = (
    "questions and answers",
    "use --method qlora, lora or full (data.type=instruction objective=sft)",
)
"""Rows of another kind than the method trains on, and how to train on them."""


class OtherRowsError(Exception):
    """The rows are of another kind than ``data.type``. ``args`` is what they are, and how to train on them."""


def _pair(shape: RowShape) -> tuple[str, str] | None:
    """Return the columns of the preferred and the other answer."""
    kinds = ("text", "turn", *TURNS)
    for names in PAIRS:
        chosen, rejected = (shape.named((name,), kinds) for name in names)
        if chosen and rejected:
            return chosen[0], rejected[0]
    return None


def _labels(shape: RowShape) -> list[str]:
    return [name for name in shape.named(LABEL, ("flag", "text", "number")) if name in shape.flags]


def _turns(shape: RowShape) -> list[Spec]:
    """Return a format for each column of turns."""
    argument = {"openai": "messages", "sharegpt": "conversations", "xtuner": "conversation"}
    specs: list[Spec] = []
    for column in shape.of_kind(*TURNS):
        kind = shape.kinds[column]
        if column not in ("prompt", "completion", "tools", "functions"):
            named = {} if column == argument[kind] else {argument[kind]: column}
            specs.append({"type": kind, **named})
    return specs


def _named_columns(shape: RowShape) -> tuple[list[str], list[str]]:
    """Return the columns of questions and those of answers, by their names."""
    questions, answers = shape.named(QUESTION), shape.named(ANSWER)
    if questions or answers:
        return questions or shape.named(OTHER_QUESTION), answers or shape.named(OTHER_ANSWER)
    for question, answer in TASKS:
        pair = shape.named((question,)), shape.named((answer,))
        if all(pair):
            return pair
    return [], []


def _questions(shape: RowShape, questions: Sequence[str] = (), answers: Sequence[str] = ()) -> list[Spec]:
    """Return formats that read a column of questions and one of answers.

    Args:
        shape: columns of the rows.
        questions: columns of questions; by default those with a known name, and the answers too.
        answers: columns of answers.
    """
    if not questions and {"instruction", "output"} <= {*shape.columns}:
        return [{"type": "alpaca"}]
    if not questions:
        questions, answers = _named_columns(shape)
    if len(questions) > 1:
        # Next to another question, it is the text that the question is about.
        questions = [name for name in questions if name.strip().lower() != "input"]
    optional = shape.named((*CONTEXT, *SYSTEM), rare=True)
    specs: list[Spec] = []
    for question in questions:
        for answer in answers:
            if any(name not in (question, answer) for name in optional):
                names = {"instruction": question, "output": answer}
                named = {key: name for key, name in names.items() if key != name}
                specs.append({"type": "alpaca", **named})
            else:
                specs.append({"type": "columns", "user": question, "assistant": answer})
    return specs


def _instruction(shape: RowShape, rows: Sequence[Row]) -> list[Spec]:
    if _pair(shape) or shape.has("messages", "rejected_response"):
        raise OtherRowsError(*PREFERENCE_ROWS)
    specs = _turns(shape)
    if not specs and shape.has("prompt", "completion"):
        texts = {"prompt", "completion"} <= {*shape.of_kind("text")}
        has_context = shape.named(CONTEXT, rare=True) and not shape.with_rare().has("tools")
        specs = [{"type": "prompt_completion"}]
        specs = _questions(shape, ["prompt"], ["completion"]) if texts and has_context else specs
    specs = specs or _questions(shape)
    if specs and _labels(shape):
        raise OtherRowsError(*LABELED_ROWS)
    if not specs and shape.has("instruction_zh", "output_zh"):
        specs = [{"type": "alpaca_zh"}]
    if not specs and "text" in shape.of_kind("text"):
        marked = sum("### Human:" in str(dict.get(row, "text")) for row in rows)
        if marked >= MIN_FRACTION * len(rows):
            return [{"type": "oasst1"}]
        if shape.of_kind("text", rare=True) == ["text"]:
            raise OtherRowsError(*TEXT_ROWS)
    return specs


def _text(shape: RowShape, rows: Sequence[Row]) -> list[Spec]:
    if "text" in shape.of_kind("text"):
        return [{"type": "text"}]
    if not shape.named(TEXT) and (_turns(shape) or _questions(shape)):
        raise OtherRowsError(*CHAT_ROWS)
    texts = shape.of_kind("text", rare=True)
    columns = shape.named(TEXT) or (texts if len(texts) == 1 else [])
    return [{"type": "columns", "text": column} for column in columns]


def _preference(shape: RowShape, rows: Sequence[Row]) -> list[Spec]:
    if shape.has("messages", "rejected_response"):
        return [{"type": "preference"}]
    pair = _pair(shape)
    if pair is None:
        if _turns(shape) or _questions(shape):
            raise OtherRowsError(*CHAT_ROWS)
        return []
    names = {} if pair == PAIRS[0] else dict(zip(("chosen", "rejected"), pair, strict=True))
    if "conversations" in shape.of_kind("sharegpt", "openai"):
        return [{"type": "sharegpt_preference", **names}]
    known = [name for name in ("prompt", "instruction") if shape.has(name)]
    questions = known[:1] or [name for name in shape.named(QUESTION, ("text", *TURNS)) if name not in pair]
    return [_pair_format(question, names, shape) for question in questions] or [
        {"type": "preference", **names}
    ]


def _pair_format(question: str, names: dict[str, str], shape: RowShape) -> Spec:
    """Return the format of pairs with a column of questions, which a context may follow."""
    is_text = question in shape.of_kind("text")
    contexts = [name for name in shape.named(CONTEXT, rare=True) if name != question]
    if question == "instruction" or (is_text and contexts and not shape.with_rare().has("tools")):
        named = {} if question == "instruction" else {"instruction": question}
        return {"type": "alpaca_preference", **named, **names}
    return {"type": "preference", **({} if question == "prompt" else {"prompt": question}), **names}


def _unpaired(shape: RowShape, rows: Sequence[Row]) -> list[Spec]:
    if _pair(shape) or shape.has("messages", "rejected_response"):
        return _preference(shape, rows)
    labels = _labels(shape)
    if not labels:
        if _turns(shape) or _questions(shape):
            raise OtherRowsError(*CHAT_ROWS)
        return []
    if shape.has("prompt", "completion") or shape.has("messages") or shape.has("conversations"):
        return [{"type": "kto"}]
    questions, answers = _named_columns(shape)
    return [
        {"type": "columns", "user": question, "assistant": answer, "label": labels[0]}
        for question in questions
        for answer in answers
    ]


def _prompt(shape: RowShape, rows: Sequence[Row]) -> list[Spec]:
    if shape.has("prompt"):
        return [{"type": "prompt"}]
    questions: list[Spec] = [{"type": "prompt", "prompt": name} for name in shape.named(QUESTION)]
    return _turns(shape) or questions


RULES: dict[str, Callable[[RowShape, Sequence[Row]], list[Spec]]] = {
    "instruction": _instruction,
    "text": _text,
    "preference": _preference,
    "unpaired_preference": _unpaired,
    "prompt": _prompt,
}
"""``data.type`` to the function that returns the formats that may fit. Formats of one list compete."""
