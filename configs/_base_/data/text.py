"""Raw text: a .txt, .jsonl, .csv or .parquet file with a column ``text``."""

data = dict(
    type="text", path="xft://handbook.txt", format="text", max_length=512, packing="auto", val_split=0.1
)
objective = "pretrain"
