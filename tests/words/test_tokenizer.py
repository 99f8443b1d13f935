import io
import json
import sys

import numpy as np
import pytest

import keras_vit


@pytest.fixture
def write(tmp_path, words, oracle):
    return lambda case, **options: words.write(oracle, case, tmp_path / case, **options)


def test_texts_of_clip_stand_between_two_tokens(write, words):
    ids = keras_vit.tokenizer(write("clip"))(["A photo of a cat", " ".join(words.WORDS), ""])
    number = {word: i for i, word in enumerate(["?", *words.WORDS])}
    assert ids.dtype == np.int32 and ids.shape == (3, 12)
    assert [*ids[0]] == [97, *(number[word] for word in "a photo of a cat".split()), *[98] * 6]
    assert [*ids[1]] == [97, *range(1, 11), 98]
    assert [*ids[2]] == [97, *[98] * 11]


def test_texts_of_siglip_have_no_capitals_and_no_punctuation(write, words):
    tokenizer = keras_vit.tokenizer(write("siglip"))
    ids = tokenizer("  This is:\n a RIPE   mango! ")
    assert [*ids[0]] == [*(3 + words.WORDS.index(word) for word in "this is a ripe mango".split()), *[1] * 7]
    np.testing.assert_array_equal(tokenizer(["this is a ripe mango"]), ids)


def test_texts_of_siglip_2_are_padded_as_its_configuration_says(write, words):
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = write("siglip")
    ids = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "?", *words.WORDS, "!"])}
    gemma = Tokenizer(models.WordLevel(ids, unk_token="?"))
    gemma.pre_tokenizer = pre_tokenizers.Whitespace()
    gemma.save(str(folder / "tokenizer.json"))
    text = [ids[word] for word in "two dogs !".split()]
    assert [*keras_vit.tokenizer(folder)("Two dogs!")[0]] == [*text, 1, *[0] * 8]
    fields = {"padding_side": "left", "eos_token": {"content": "<bos>"}, "pad_token": "?"}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    assert [*keras_vit.tokenizer(folder)("Two dogs!")[0]] == [*[3] * 8, *text, 2]


def test_texts_of_open_clip(write, words):
    number = {word: i for i, word in enumerate(["?", *words.WORDS])}
    ids = keras_vit.tokenizer(write("open_clip"))("a cat")
    assert [*ids[0]] == [97, number["a"], number["cat"], *[98] * 9]
    folder = write("open_clip_siglip")
    tokenizer = keras_vit.tokenizer(folder)
    np.testing.assert_array_equal(tokenizer(["Two dogs!"]), tokenizer(["two dogs"]))


def test_the_pieces_of_siglip_1(write, words):
    import sentencepiece

    folder, model = write("siglip", tokenizer=False), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words.WORDS)] * 9),
        model_writer=model,
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    expected = pieces.encode("ripe mango")
    assert [*keras_vit.tokenizer(folder)("Ripe mango.")[0]] == [*expected, *[1] * (12 - len(expected))]


def test_a_tokenizer_of_another_checkpoint(write):
    folder = write("clip")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("98", "96"))
    with pytest.raises(ValueError, match="99 ids, of which 98 ends a text. Received: .*'<|endoftext|>': 96"):
        keras_vit.tokenizer(folder)
    (folder / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|over|>"))
    with pytest.raises(ValueError, match="'<|endoftext|>': None"):
        keras_vit.tokenizer(folder)


def test_a_checkpoint_without_a_tokenizer(write):
    folder = write("clip")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json, which cannot be read"):
        keras_vit.tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="Expected tokenizer.json beside the weights"):
        keras_vit.tokenizer(folder)


def test_a_missing_library_is_an_error_that_names_the_extra(write, monkeypatch):
    folder = write("clip")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match='extra "words"'):
        keras_vit.tokenizer(folder)
