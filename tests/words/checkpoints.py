"""Tiny SigLIP and CLIP checkpoints, as on the Hugging Face hub, and what transformers 5.23 computes from them.

text.npz has, of each CASE, on the weights and images that tests/oracle.py makes: CASE/text, CASE/image and CASE/logits,
the embeddings of texts and images and the similarities of each image (row) and text (column); files/CASE, the names and
shapes of the checkpoint's arrays; configs/CASE, the config.json beside it; and the ids of all texts.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

FILE = np.load(pathlib.Path(__file__).with_name("text.npz"))
CASES = [name.removesuffix("/text") for name in FILE.files if name.endswith("/text")]
WORDS = "a photo of this is ripe mango unripe red green blue circle something else . cat dog two dogs".split()


def write(oracle, case, folder, tokenizer=True):
    """Writes the checkpoint of a case into a folder, with a tokenizer of `WORDS`, and returns the folder."""
    folder.mkdir()
    arrays = {name: np.asarray(oracle.tensor(name, shape)) for name, shape in map(oracle.parse, FILE[f"files/{case}"])}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(str(FILE[f"configs/{case}"]))
    if tokenizer:
        (of_clip if case.startswith("clip") else of_siglip)().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 12}))
    return folder


def of_clip():
    """Returns a tokenizer with the two tokens of CLIP at its last ids, of 99."""
    ids = {word: number for number, word in enumerate(["?", *WORDS])} | {"<|startoftext|>": 97, "<|endoftext|>": 98}
    result = Tokenizer(models.WordLevel(ids, unk_token="?"))
    result.normalizer = normalizers.Lowercase()
    result.pre_tokenizer = pre_tokenizers.Whitespace()
    return result


def of_siglip():
    """Returns a tokenizer of pieces, as SigLIP 1 has it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in WORDS)]
    result = Tokenizer(models.Unigram(pieces, unk_id=2))
    result.pre_tokenizer = pre_tokenizers.Metaspace()
    result.add_special_tokens([AddedToken("</s>")])
    return result
