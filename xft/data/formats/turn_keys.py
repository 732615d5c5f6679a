"""Keys of a turn that formats of conversations read, in the spellings of several frameworks."""

MEDIA_KEYS = ("image", "images", "video", "videos", "audio", "audios")
"""Columns and keys of turns that hold images, video or audio."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
LOSS_FLAG_KEYS = ("weight", "loss_weight", "loss", "train", "training", "trainable", "output_with_loss")
"""1 or true: the turn is a target. 0 or false: it is context only."""
INVERTED_FLAG_KEYS = ("masked",)
"""The same with the opposite meaning (torchtune)."""
REFUSED_KEYS = {
    "train_detail": "targets within a turn are not supported: remove the key, and write 'weight': 0 into turns that are "
    "context only",
    "loss_mask": "its meaning differs between frameworks: write 'weight': 0 for context, 'weight': 1 for a target",
    "loss_scale": "turns are not weighted: write 'weight': 0 for context, 'weight': 1 for a target",
}
"""Keys that change the loss and have no equivalent, with the fix."""
TURN_KEYS = frozenset(
    (
        *("role", "from", "content", "value", "name"),
        *("tool_calls", "function_call", "tool_call_id"),
        *(*LOSS_FLAG_KEYS, *INVERTED_FLAG_KEYS, *REFUSED_KEYS),
        *(*REASONING_KEYS, *MEDIA_KEYS),
    )
)
"""All keys that :func:`~xft.data.formats.messages.parse_messages` reads in a turn."""
