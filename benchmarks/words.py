"""What "words instead of training" is worth: python benchmarks/words.py {parity,exports,backends,few-shot} ...

    parity --data cifar10.zip       both towers, similarities and the baked head beside transformers, on seeded random
                                    weights of the sizes of CLIP B/32 and SigLIP B/16, and the images of a folder
    exports                         the size of each exported file of a zero-shot model beside its image tower's own
    backends                        the probabilities on TensorFlow, JAX and PyTorch
    few-shot --data cifar10.zip --weights vit_s14.npz
                                    a head of words beside a head of zeros, with few images of each class

All but few-shot make the checkpoints with transformers, see requirements.txt. Random weights make all images alike:
what they show is that the numbers are the same, not how good they are.
"""

import argparse
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

IMAGE_SIZE, BATCH = 224, 50
FAMILIES = ("clip", "siglip")
TARGETS = ("savedmodel", "tflite-float32", "tflite-int8", "onnx", "openvino")


def labels_of(count: int) -> list[str]:
    """Returns names of ImageNet's classes, evenly spaced in its list, without those that two classes have."""
    from keras_vit.imagenet import class_names

    names = list(dict.fromkeys(name.replace("_", " ") for _, name in class_names()))
    return [names[i] for i in np.linspace(0, len(names) - 1, count).astype(int)]


def write_checkpoint(family: str, labels: list[str], folder: pathlib.Path):
    """Writes a checkpoint with random weights and a tokenizer of the labels' words; returns transformers' model."""
    import torch
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    torch.manual_seed(0)
    if family == "clip":
        model = CLIPModel(CLIPConfig())  # B/32
    else:
        model = SiglipModel(SiglipConfig())  # B/16 at 224 x 224
        torch.nn.init.constant_(model.logit_bias, -16.5)
    torch.nn.init.constant_(model.logit_scale, 4.7)  # as in published checkpoints: a factor of 110
    folder.mkdir(exist_ok=True)
    model.eval().save_pretrained(folder)
    words = list(dict.fromkeys(" ".join(["a photo of this is .", *labels]).lower().replace("'", " ' ").split()))
    if family == "clip":
        ids = {word: number for number, word in enumerate(["?", *words])}
        tokenizer = Tokenizer(models.WordLevel(ids | {"<|startoftext|>": 49406, "<|endoftext|>": 49407}, unk_token="?"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    else:
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in words)]
        pieces += [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.add_special_tokens([AddedToken("</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def read_images(data: str, count: int, pixels) -> np.ndarray:
    """Returns images of the test split, equally many of each class, as a model reads them."""
    from keras_vit.data.pipeline import evaluation_batches
    from keras_vit.data.sources import open_source

    examples = open_source(data, validation=0.0, test=0.0).test
    classes = np.unique(examples.labels)
    chosen = [np.flatnonzero(examples.labels == one)[: count // len(classes)] for one in classes]
    batches = evaluation_batches(
        examples.take(np.sort(np.concatenate(chosen))), (IMAGE_SIZE, IMAGE_SIZE), contract=pixels
    )
    return np.concatenate([np.asarray(batch[0]) for batch in batches])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def parity(arguments: argparse.Namespace) -> None:
    """Prints a row for each family: the largest differences from transformers, and the share of equal classes."""
    import keras
    import torch

    import keras_vit

    columns = "text embeddings | image embeddings | logits | of them, the baked head | same class | classes predicted"
    print(f"| weights | images | {columns} | the two best differ by more than twice the difference |")
    print("|---" * 9 + "|", flush=True)
    for family in arguments.families:
        with tempfile.TemporaryDirectory() as name:
            labels, folder = labels_of(arguments.labels), pathlib.Path(name)
            reference = write_checkpoint(family, labels, folder)
            encoder, tower = keras_vit.text_encoder(folder), keras_vit.load(folder)
            model = keras_vit.zero_shot(folder, labels, model=tower)
            template = "a photo of a {}." if family == "clip" else "This is a photo of {}."
            ids = keras_vit.tokenizer(folder)([template.replace("{}", label) for label in labels])
        images = read_images(arguments.data, arguments.images, keras_vit.pixels_of(model))
        text = unit(encoder.predict(ids, batch_size=BATCH, verbose=0))
        both = keras.Model(model.input, [tower.output, model.get_layer("head").output])
        image, baked = both.predict(images, batch_size=BATCH, verbose=0)
        image = unit(image)
        logits = encoder.scale * image @ text.T + (encoder.bias or 0)
        expected_image = []
        with torch.no_grad():
            of_texts = torch.tensor(ids).long()
            for start in range(0, len(images), BATCH):
                pixels = torch.tensor(images[start : start + BATCH]).permute(0, 3, 1, 2)
                output = reference(input_ids=of_texts if start == 0 else of_texts[:1], pixel_values=pixels)
                expected_image.append(output.image_embeds.numpy())
                if start == 0:  # the similarities of all images are computed as those of the first ones
                    expected_text, first = output.text_embeds.numpy(), output.logits_per_image.numpy()
        expected_image = np.concatenate(expected_image)
        scale, bias = np.exp(reference.logit_scale.item()), getattr(reference, "logit_bias", None)
        expected = scale * expected_image @ expected_text.T + (0 if bias is None else bias.item())
        np.testing.assert_allclose(expected[: len(first)], first, rtol=0, atol=1e-4)
        differences = [
            abs(ours - theirs).max()
            for ours, theirs in (
                (text, expected_text),
                (image, expected_image),
                (logits, expected),
                (baked, expected),
            )
        ]
        second, best = np.sort(expected, axis=1)[:, -2:].T
        same = np.mean(baked.argmax(1) == expected.argmax(1))
        clear = np.mean(best - second > 2 * differences[-1])
        print(
            f"| {family}, random | {len(images)} | {' | '.join(f'{one:.1e}' for one in differences)} | {same:.2%} | "
            f"{len(np.unique(expected.argmax(1)))} of {len(labels)} | {clear:.2%} |",
            flush=True,
        )


def exports(arguments: argparse.Namespace) -> None:
    """Prints a row for each family and target: bytes of the file of a classifier, and of that of its image tower."""
    import keras_vit
    from keras_vit.commands.export import export
    from keras_vit.commands.zero_shot import write_zero_shot

    labels = labels_of(arguments.labels)
    print("| weights | file | MB | that of its image tower | larger by | top-1 agreement or tie | largest difference |")
    print("|---" * 7 + "|", flush=True)
    for family in arguments.families:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_checkpoint(family, labels, folder / "checkpoint")
            made = write_zero_shot(
                folder / "checkpoint", labels, targets=arguments.targets, output=folder / "words", data=arguments.data
            )
            keras_vit.load(folder / "checkpoint").save(folder / "tower.keras")
            _, towers = export(folder / "tower.keras", arguments.targets, folder / "tower", outputs="numbers")
            own = {one.target: one.bytes for one in towers}
            for one in made.agreements:
                print(
                    f"| {family}, random | {one.file} | {one.bytes / 1e6:.1f} | {own[one.target] / 1e6:.1f} | "
                    f"{one.bytes / own[one.target] - 1:.2%} | {one.top1_agreement_or_tie:.2%} of {one.images} | "
                    f"{one.logits['max_difference']:.1e} |",
                    flush=True,
                )


READ = """
import sys, numpy as np, keras_vit
model = keras_vit.zero_shot(sys.argv[1], ["ripe mango", "unripe mango", "red dog"])
images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
np.save(sys.argv[2], model.predict(images, verbose=0))
"""


def backends(arguments: argparse.Namespace) -> None:
    """Prints the largest difference of probabilities of JAX and PyTorch from those of TensorFlow."""
    for family in arguments.families:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_checkpoint(family, ["ripe mango", "unripe mango", "red dog"], folder / "checkpoint")
            outputs = {}
            for backend in ("tensorflow", "jax", "torch"):
                file = folder / f"{backend}.npy"
                command = [arguments.python, "-c", READ, str(folder / "checkpoint"), str(file)]
                subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": backend})
                outputs[backend] = np.load(file)
            for backend in ("jax", "torch"):
                print(f"{family}, {backend}: {abs(outputs[backend] - outputs['tensorflow']).max():.1e}", flush=True)


def few_shot(arguments: argparse.Namespace) -> None:
    """Prints the accuracy of linear heads on frozen features: of words alone, and trained from words or from zeros."""
    trained = [(start, steps) for start in ("words", "zeros") for steps in arguments.steps]
    columns = " | ".join(f"from {start}, {steps} steps" for start, steps in trained)
    print(f"| features | words | images of each class | words alone | {columns} |")
    print("|---" * (4 + len(trained)) + "|", flush=True)
    for name, x, y, words in (*synthetic(), *real(arguments)):
        for shots in arguments.shots:
            scores = []
            for seed in range(arguments.seeds):
                train, test = split(y, shots, arguments.test_images, seed)
                starts = {"words": words, "zeros": np.zeros_like(words)}
                heads = [words, *(fitted(x[train], y[train], starts[start], steps) for start, steps in trained)]
                scores.append([np.mean((x[test] @ head).argmax(1) == y[test]) for head in heads])
            cells = [f"{100 * mean:.1f}" for mean in np.mean(scores, axis=0)]
            print(f"| {name} | {shots} | {' | '.join(cells)} |", flush=True)


def split(y: np.ndarray, shots: int, test_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of `shots` examples of each class, and of the test examples, which are the last ones."""
    random, pool = np.random.default_rng(seed), np.arange(len(y) - test_images)
    chosen = [random.permutation(pool[y[pool] == one])[:shots] for one in np.unique(y)]
    return np.concatenate(chosen), np.arange(len(y) - test_images, len(y))


def fitted(x: np.ndarray, y: np.ndarray, kernel: np.ndarray, steps: int, rate: float = 0.02) -> np.ndarray:
    """Returns the kernel after `steps` of Adam on the cross-entropy of all examples."""
    onehot, first, second = np.eye(kernel.shape[1])[y], 0.0, 0.0
    for step in range(1, steps + 1):
        logits = x @ kernel
        p = np.exp(logits - logits.max(1, keepdims=True))
        gradient = x.T @ (p / p.sum(1, keepdims=True) - onehot) / len(x)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        kernel = kernel - rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return kernel


def synthetic(classes: int = 10, size: int = 512, each: int = 220, noise: float = 8.0, scale: float = 30.0):
    """Yields (name, features, labels, kernel of words): class directions and noise, each of random direction."""
    random = np.random.default_rng(0)
    directions = unit(random.normal(size=(classes, size)))
    y = random.permutation(np.repeat(np.arange(classes), each))
    x = unit(directions[y] + noise * random.normal(size=(len(y), size)) / size**0.5)
    for error in (0.5, 1.0, 2.0, 4.0):
        words = unit(directions + error * random.normal(size=directions.shape) / size**0.5)
        cosine = np.mean(np.sum(words * directions, axis=1))
        yield f"synthetic | cosine {cosine:.2f} with the class", x, y, scale * words.T


def real(arguments: argparse.Namespace):
    """Yields the same of a trained image tower, with text towers that are trained here on other images."""
    import keras_vit
    from keras_vit.data.pipeline import evaluation_batches
    from keras_vit.data.sources import open_source
    from keras_vit.evaluation import extract_features

    size = (arguments.image_size, arguments.image_size)
    tower = keras_vit.load(arguments.weights, input_shape=(*size, 3), gelu="erf")
    pixels = keras_vit.Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    source = open_source(arguments.data, validation=0.0, test=0.0)
    examples, each = source.train, arguments.train_images // len(source.class_names)
    random = np.random.default_rng(0)
    chosen = [
        random.permutation(np.flatnonzero(examples.labels == one))[:each] for one in range(len(source.class_names))
    ]
    parts = (
        examples.take(np.concatenate(chosen)),
        source.test.take(random.permutation(len(source.test.labels))[: arguments.test_images]),
    )
    features = [extract_features(tower, evaluation_batches(part, size, contract=pixels)) for part in parts]
    x, y = (np.concatenate([part[i] for part in features]) for i in (0, 1))
    x = unit(np.asarray(x, np.float64))
    for seen in arguments.seen:
        # The first images of each class train the text tower, and are in neither of the other parts.
        place = np.concatenate([np.arange(each)] * len(source.class_names) + [np.full(arguments.test_images, each)])
        of_text = place < seen
        words = words_of(source.class_names, x[of_text], y[of_text])
        yield f"ViT-S/14 | of a text tower trained on {seen} images a class", x[~of_text], y[~of_text], words


def words_of(names, x: np.ndarray, y: np.ndarray, steps: int = 150) -> np.ndarray:
    """Returns the kernel of words of a tiny text tower, trained contrastively beside frozen features of images."""
    import keras

    from keras_vit.models.config import Numerics, TextTower
    from keras_vit.models.text import text_model

    templates = ("a photo of a {}.", "a small photo of the {}.", "a blurred photo of a {}.")
    texts = [[one.format(name).rstrip(".").split() for name in names] for one in templates]
    vocabulary = sorted({word for group in texts for text in group for word in text})
    length = 2 + max(len(text) for group in texts for text in group)
    end = len(vocabulary) + 1
    ids = np.zeros((len(templates), len(names), length), np.int32)
    for i, group in enumerate(texts):
        for j, text in enumerate(group):
            numbers = [1 + vocabulary.index(word) for word in text]
            ids[i, j, : len(numbers) + 1] = [*numbers, end]
    keras.utils.set_random_seed(0)
    encoder = text_model(TextTower(end + 1, length, 64, 2, 1, 128, x.shape[1], end), Numerics("quick", 1e-5))
    images = keras.Input((x.shape[1],))
    flat = keras.Input((len(names), length), dtype="int32")

    class Similarity(keras.layers.Layer):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder
            self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(np.log(20.0)))

        def call(self, images, ids):
            embedded = self.encoder(ids[0])
            embedded = embedded / keras.ops.norm(embedded, axis=-1, keepdims=True)
            return keras.ops.exp(self.scale) * images @ keras.ops.transpose(embedded)

    similarity = Similarity(encoder)
    model = keras.Model([images, flat], similarity(images, flat))
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    random = np.random.default_rng(0)
    for step in range(steps):
        batch = random.integers(0, len(x), min(256, len(x)))
        group = np.broadcast_to(ids[step % len(templates)], (len(batch), *ids.shape[1:]))
        model.train_on_batch([x[batch].astype("float32"), group], y[batch])
    directions = unit(np.mean([unit(np.asarray(encoder(group))) for group in ids], axis=0))
    return float(np.exp(similarity.scale)) * directions.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("parity")
    command.add_argument("--data", required=True)
    command.add_argument("--images", type=int, default=1000)
    command.add_argument("--labels", type=int, default=100)
    command.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    command.set_defaults(run=parity)
    command = commands.add_parser("exports")
    command.add_argument("--data", help="images to compare the files on; synthetic ones by default")
    command.add_argument("--labels", type=int, default=10)
    command.add_argument("--targets", nargs="+", default=TARGETS)
    command.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    command.set_defaults(run=exports)
    command = commands.add_parser("backends")
    command.add_argument("--python", default=sys.executable, help="of an environment with the three backends")
    command.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    command.set_defaults(run=backends)
    command = commands.add_parser("few-shot")
    command.add_argument("--data", required=True)
    command.add_argument("--weights", required=True, help="a plain ViT's checkpoint with exact GELU")
    command.add_argument("--image-size", type=int, default=56)
    command.add_argument("--train-images", type=int, default=600, help="of all classes; the text tower's are of these")
    command.add_argument("--test-images", type=int, default=500)
    command.add_argument("--seen", type=int, nargs="+", default=[2, 20], help="images of each class for a text tower")
    command.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    command.add_argument("--steps", type=int, nargs="+", default=[20, 200], help="of Adam on all images at once")
    command.add_argument("--seeds", type=int, default=3)
    command.set_defaults(run=few_shot)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    started = time.monotonic()
    arguments.run(arguments)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
