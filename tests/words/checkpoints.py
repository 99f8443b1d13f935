"""Tiny SigLIP and CLIP checkpoints, as on the Hugging Face hub, and what their projects compute from them.

The projects are transformers 5.23 and, for the cases named so, open_clip 3.3 with timm 1.0.31. text.npz has, of each
CASE, on the weights and images that tests/oracle.py makes: CASE/text, CASE/image and CASE/logits, the embeddings of
texts and images and the similarities of each image (row) and text (column); files/CASE, the names and shapes of the
checkpoint's arrays; configs/CASE, the configuration beside it; and the ids of all texts.
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
    prefix = "open_clip_" if case.startswith("open_clip") else ""
    save_file(arrays_of(oracle, case), folder / f"{prefix}model.safetensors")
    (folder / f"{prefix}config.json").write_text(str(FILE[f"configs/{case}"]))
    if tokenizer:
        (of_siglip if "siglip" in case else of_clip)().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 12}))
    return folder


def arrays_of(oracle, case):
    """Returns {name: array} of the checkpoint of a case."""
    return {name: np.asarray(oracle.tensor(name, shape)) for name, shape in map(oracle.parse, FILE[f"files/{case}"])}


def as_big_vision(arrays, heads=4, stacked=False):
    """Returns a SigLIP of transformers with the names and shapes of big_vision's two towers."""
    dense = {"fc1": "MlpBlock_0/Dense_0", "fc2": "MlpBlock_0/Dense_1"}
    norms = {"layer_norm1": "LayerNorm_0", "layer_norm2": "LayerNorm_1", "layernorm": "LayerNorm_0"}
    attention = "MultiHeadDotProductAttention_0/"
    result = {"params/t": arrays["logit_scale"], "params/b": arrays["logit_bias"]}

    def put(name, weight, bias):
        """Puts a layer there, whose kernel is (inputs, outputs) or that of a norm."""
        of_heads = name.rsplit("/", 1)[-1] in ("query", "key", "value")
        if of_heads or name.endswith("Attention_0/out"):
            split = (heads, len(bias) // heads)
            weight = weight.reshape(len(weight), *split) if of_heads else weight.reshape(*split, -1)
            bias = bias.reshape(split) if of_heads else bias
        result[f"{name}/{'scale' if weight.ndim == 1 else 'kernel'}"], result[f"{name}/bias"] = weight, bias

    for hf, ours, encoder in (
        ("vision_model.", "params/img/", "Transformer/"),
        ("text_model.", "params/txt/", "Encoder_0/"),
    ):
        tower = {name.removeprefix(hf): array for name, array in arrays.items() if name.startswith(hf)}
        for name, array in tower.items():
            layer, _, end = name.rpartition(".")
            parts = layer.split(".")
            if layer == "embeddings.patch_embedding" and end == "weight":
                put(ours + "embedding", array.transpose(2, 3, 1, 0), tower["embeddings.patch_embedding.bias"])
            elif layer == "embeddings.position_embedding":
                result[ours + "pos_embedding"] = array[None]
            elif layer == "embeddings.token_embedding":
                result[ours + "Embed_0/embedding"] = array
            elif name == "head.probe":
                result[ours + "MAPHead_0/probe"] = array
            elif name == "head.attention.in_proj_weight":
                biases = np.split(tower["head.attention.in_proj_bias"], 3)
                for part, weight, bias in zip(("query", "key", "value"), np.split(array, 3), biases):
                    put(f"{ours}MAPHead_0/{attention}{part}", weight.T, bias)
            elif end == "weight":
                last = parts[-1].removesuffix("_proj")
                named = {**dense, **norms, **dict(zip("qkv", ("query", "key", "value")))}.get(last, last)
                named = attention + named if parts[-1].endswith("_proj") else named
                place = f"{encoder}encoderblock_{parts[2]}/" if parts[0] == "encoder" else "MAPHead_0/"
                if parts[-1] in ("post_layernorm", "final_layer_norm"):
                    place, named = encoder, "encoder_norm"
                elif layer == "head":
                    place, named = "", "head"
                put(ours + place + named, array.T, tower[f"{layer}.bias"])
    if not stacked:
        return result
    first = [name for name in result if "encoderblock_0/" in name]
    whole = {
        name.replace("encoderblock_0", "encoderblock"): np.stack(
            [result[name], result[name.replace("encoderblock_0", "encoderblock_1")]]
        )
        for name in first
    }
    return {name: array for name, array in result.items() if "encoderblock_" not in name} | whole


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
