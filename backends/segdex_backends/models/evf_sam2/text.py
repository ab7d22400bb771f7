"""Tokenizer of EVF-SAM: BEiT-3's sentence pieces with XLM-R's token ids."""

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
"""Prefix of a text that requests all objects of a kind instead of one object (EVF-SAM, ``demo.py``)."""

START, PADDING, END, UNKNOWN = 0, 1, 2, 3
"""Special token ids of fairseq. XLM-R shifts its piece ids by one to match them (``XLMRobertaTokenizer``)."""


class EvfTokenizer:
    """Converts texts to token ids as ``XLMRobertaTokenizer`` does.

    Args:
        pieces: Path of ``sentencepiece.bpe.model``.
        semantic_id: Token id of ``[semantic]``; None if the checkpoint reads it as text.

    Raises:
        ModelInvalidError: If the file is not a sentence-piece model.
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
        """Load the tokenizer from the folder of a checkpoint.

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
        """Return the token ids of a text with start and end tokens.

        Args:
            text: Query text.
            semantic: Whether to put ``[semantic]`` before the text.

        Raises:
            QueryError: If the text is empty or has more than ``MAX_TEXT_TOKENS`` tokens.
        """
        if not text.strip():
            raise QueryError("the query text is empty: say what to look for")
        ids = [START]
        if semantic and self.semantic_id is not None:
            ids.append(self.semantic_id)
        elif semantic:
            text = f"{SEMANTIC} {text}"
        # piece 0 is unknown; the ids of all other pieces are shifted by one
        ids += [piece + 1 if piece else UNKNOWN for piece in self._pieces.EncodeAsIds(text)]
        ids.append(END)
        if len(ids) > MAX_TEXT_TOKENS:
            raise QueryError(
                f"the query text has {len(ids):,} tokens, but EVF-SAM2 reads at most {MAX_TEXT_TOKENS:,}: "
                "shorten it"
            )
        return ids


def pad_ids(texts: list[list[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return (n, t) ids padded to the longest text, and an (n, t) bool array that is False for padding."""
    longest = max(map(len, texts))
    ids = np.full((len(texts), longest), PADDING, np.int64)
    real = np.zeros((len(texts), longest), np.bool_)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        real[row, : len(text)] = True
    return ids, real
