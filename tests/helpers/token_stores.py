"""Write token stores from samples."""

from pathlib import Path

import numpy as np

from xft.data.store.token_store import ROW, SAMPLE, StoreWriter, TokenStore, digest, to_tokens
from xft.types import Sample


def write_store(folder: Path, rows: list[list[Sample]]) -> TokenStore:
    """A store of rows that each became some samples."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = StoreWriter(folder)
    for line, samples in enumerate(rows, 1):
        pieces = [to_tokens(each).tobytes() for each in samples]
        name = digest(*pieces)
        writer.append(
            np.array([(0, line, len(samples), 0, name, name, name)], dtype=ROW),
            np.array(
                [
                    (len(each), each.num_targets, -1 if each.desirable is None else each.desirable, 0)
                    for each in samples
                ],
                dtype=SAMPLE,
            ),
            b"".join(pieces),
            [(f"file{line % 2}.jsonl", "line")],
        )
    writer.close({})
    return TokenStore(folder)
