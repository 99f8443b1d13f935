"""`tokenizer`: makes token ids of texts, by the files beside the weights of a checkpoint."""

import logging
import os
import pathlib
import re
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.weights.formats import read_beside
from keras_vit.weights.open import checkpoint_path
from keras_vit.weights.text import open_text_file

logger = logging.getLogger("keras_vit")


class _Kind(NamedTuple):
    """How the tokens of a family are put together, where tokenizer_config.json does not say it.

    Args:
        start, end, pad: tokens before and after a text, and up to the length of the tower; None for none.
        lowers: whether the text is put into lower case here; CLIP's own file does it.
        drops_punctuation: whether punctuation is dropped here.
    """

    start: str | None
    end: str
    pad: str
    lowers: bool = False
    drops_punctuation: bool = False


_CLIP = _Kind("<|startoftext|>", "<|endoftext|>", "<|endoftext|>")
_SIGLIP = _Kind(None, "</s>", "</s>", True, True)
_SIGLIP2 = _Kind(None, "<eos>", "<pad>", True)


class _Words(NamedTuple):
    """What a tokenizer's file holds: ids of a text, the id of a token or None, and whether it is of SigLIP 1."""

    ids: Callable[[str], list[int]]
    id_of: Callable[[str], int | None]
    is_unigram: bool


class Tokenizer:
    """Makes the token ids that a text tower reads.

    A text that is too long is cut off before its last token, which ends it.

    Args:
        words: of the tokenizer's file.
        kind: of the checkpoint's family.
        length: tokens of a text.
        left: whether texts are padded in front.
    """

    def __init__(self, words: _Words, kind: _Kind, length: int, left: bool = False) -> None:
        self.length = length
        self._words, self._kind, self._left = words, kind, left
        self._start, self._end, self._pad = (
            None if token is None else words.id_of(token) for token in (kind.start, kind.end, kind.pad)
        )

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """Returns the ids of texts, int32 (batch, length)."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        front = [] if self._start is None else [self._start]
        numbers = [[*front, *self._words.ids(self._canonical(text)), self._end] for text in texts]
        if long := [text for text, ids in zip(texts, numbers) if len(ids) > self.length]:
            logger.warning("texts are cut off after %d tokens: %s", self.length, checked.first_few(long))
        return np.array([self._padded(ids) for ids in numbers], np.int32).reshape(len(texts), self.length)

    def _padded(self, ids: list[int | None]) -> list[int | None]:
        ids = [*ids[:-1][: self.length - 1], self._end]
        padding = [self._pad] * (self.length - len(ids))
        return [*padding, *ids] if self._left else [*ids, *padding]

    def _canonical(self, text: str) -> str:
        """Returns a text as the texts of the family's training were."""
        text = text.lower() if self._kind.lowers else text
        if self._kind.drops_punctuation:
            text = re.sub(r"\s+", " ", text.translate(str.maketrans("", "", string.punctuation))).strip()
        return text


def tokenizer(weights: str | os.PathLike[str]) -> Tokenizer:
    """Returns what makes token ids of texts for `keras_vit.text_encoder`, by the checkpoint's own files.

    The ids are those of transformers' processor: SigLIP's texts in lower case and without punctuation, SigLIP 2's in
    lower case, CLIP's between their two tokens; padded to the length of the tower (64 and 77 in published ones).

    Args:
        weights: a checkpoint as in `keras_vit.text_encoder`, with a tokenizer.json in its folder, or SigLIP's
            spiece.model.

    Returns:
        A function from a text or several to ids, int32 (batch, length).

    Raises:
        ImportError: if the library is missing that reads the file; it names the extra.
        ValueError, OSError: if there is no such file, or it is not of this checkpoint.

    Example:
        ```python
        ids = keras_vit.tokenizer("tiny_clip")(["a cat", "two dogs"])
        assert ids.shape == (2, 12) and ids.dtype == "int32"
        ```
    """
    path = checkpoint_path(weights)
    with open_text_file(path) as (file, tower, _, _):
        beside, is_clip = pathlib.Path(file.path), tower.end is not None
        is_canonical = file.config.get("clean") == "canonicalize"
    config = read_beside(beside, "tokenizer_config.json")
    words = _read_words(beside.parent, is_clip)
    kind = _CLIP if is_clip else _SIGLIP if words.is_unigram else _SIGLIP2
    if is_canonical:  # OpenCLIP's of SigLIP 2, too
        kind = kind._replace(lowers=True, drops_punctuation=True)
    named = {field: config.get(f"{name}_token") for field, name in (("end", "eos"), ("pad", "pad"))}
    kind = kind._replace(
        **{field: token["content"] if isinstance(token, dict) else token for field, token in named.items() if token}
    )
    ids = {token: words.id_of(token) for token in (kind.start, kind.end, kind.pad) if token is not None}
    wrong = [token for token, number in ids.items() if number is None or not 0 <= number < tower.vocabulary]
    if wrong or is_clip and ids[kind.end] != tower.end:
        raise ValueError(
            f"Expected the tokenizer of a text tower with {tower.vocabulary:,} ids"
            + (f", of which {tower.end} ends a text. " if is_clip else ". ")
            + f"Received: {beside.parent}, with the ids {ids}"
        )
    return Tokenizer(words, kind, tower.length, config.get("padding_side") == "left")


def _read_words(folder: pathlib.Path, is_clip: bool) -> _Words:
    """Returns the tokens of a folder's tokenizer.json, or of its spiece.model."""
    path = folder / "tokenizer.json"
    try:
        if path.exists():
            from tokenizers import Tokenizer as Read

            read = Read.from_file(str(path))
            read.no_padding()
            read.no_truncation()
            return _Words(
                lambda text: read.encode(text, add_special_tokens=False).ids,
                read.token_to_id,
                type(read.model).__name__ == "Unigram",
            )
        path = folder / "spiece.model"
        if path.exists() and not is_clip:
            from sentencepiece import SentencePieceProcessor

            pieces = SentencePieceProcessor(model_file=str(path))

            def id_of(token: str) -> int | None:
                number: int = pieces.piece_to_id(token)
                return number if pieces.id_to_piece(number) == token else None

            return _Words(pieces.encode, id_of, True)
    except ImportError as error:
        raise ImportError(
            'Reading a tokenizer needs the extra "words": pip install tokenizers sentencepiece'
        ) from error
    except Exception as error:  # of the libraries, which raise Exception itself
        raise ValueError(f"Expected a tokenizer. Received: {path}, which cannot be read: {error}") from error
    raise ValueError(
        f"Expected tokenizer.json{'' if is_clip else ' or spiece.model'} beside the weights. "
        f"Received: {folder.absolute()}, without. Copy the file from the checkpoint's page on the hub."
    )
