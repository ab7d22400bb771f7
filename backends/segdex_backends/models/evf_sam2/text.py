"""The text side of EVF-SAM: XLM-R's numbering of BEiT-3's sentence pieces."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sentencepiece import SentencePieceProcessor

from segdex_backends.models.evf_sam2.beit3 import MAX_TEXT_TOKENS
from segdex_core.errors import ModelInvalidError, QueryError

SENTENCE_PIECE_FILE = "sentencepiece.bpe.model"
ADDED_TOKENS_FILE = "added_tokens.json"

SEMANTIC = "[semantic]"
"""Put before a text, it asks for all objects of a kind instead of one (EVF-SAM, ``demo.py``)."""

START, PADDING, END, UNKNOWN = 0, 1, 2, 3
"""Ids of fairseq's dictionary, by which XLM-R's pieces are shifted by one (``XLMRobertaTokenizer``)."""


class EvfTokenizer:
    """Texts to token ids, as ``XLMRobertaTokenizer`` makes them.

    Args:
        pieces: The file ``sentencepiece.bpe.model``.
        semantic_id: Id of ``[semantic]`` where the checkpoint knows it as a token; else it is read as text.

    Raises:
        ModelInvalidError: If the file is no sentence-piece model.
    """

    def __init__(self, pieces: Path, *, semantic_id: int | None) -> None:
        self._pieces = SentencePieceProcessor()
        try:
            self._pieces.Load(str(pieces))
        except (OSError, RuntimeError) as error:
            raise ModelInvalidError(f"{pieces} is no sentence-piece model: {error}") from error
        self.semantic_id = semantic_id

    @classmethod
    def load(cls, folder: Path) -> "EvfTokenizer":
        """Return the tokenizer of a checkpoint's folder.

        Raises:
            ModelInvalidError: If a file cannot be read.
        """
        added = folder / ADDED_TOKENS_FILE
        try:
            tokens = json.loads(added.read_bytes()) if added.is_file() else {}
            semantic_id = None if SEMANTIC not in tokens else int(tokens[SEMANTIC])
        except (TypeError, ValueError) as error:
            raise ModelInvalidError(f"{added} does not give tokens their ids: {error}") from error
        return cls(folder / SENTENCE_PIECE_FILE, semantic_id=semantic_id)

    def encode(self, text: str, *, semantic: bool) -> list[int]:
        """Return the ids of a text between those of start and end.

        Args:
            text: What to look for.
            semantic: Put ``[semantic]`` before it.

        Raises:
            QueryError: If it is empty, or longer than the model reads.
        """
        if not text.strip():
            raise QueryError("the query text is empty: say what to look for")
        ids = [START]
        if semantic and self.semantic_id is not None:
            ids.append(self.semantic_id)
        elif semantic:
            text = f"{SEMANTIC} {text}"
        # unknown is 0 among the pieces; all others come one place later
        ids += [piece + 1 if piece else UNKNOWN for piece in self._pieces.EncodeAsIds(text)]
        ids.append(END)
        if len(ids) > MAX_TEXT_TOKENS:
            raise QueryError(
                f"the query text has {len(ids):,} tokens, but EVF-SAM2 reads at most {MAX_TEXT_TOKENS:,}: "
                "shorten it"
            )
        return ids


def pad_ids(texts: list[list[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return (n, t) ids padded to the longest, and (n, t) which of them are real."""
    longest = max(map(len, texts))
    ids = np.full((len(texts), longest), PADDING, np.int64)
    real = np.zeros((len(texts), longest), np.bool_)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        real[row, : len(text)] = True
    return ids, real
