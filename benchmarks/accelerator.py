"""Measures training and inference on an accelerator: python benchmarks/accelerator.py [--tiny]

ViT-B/16 and ViT-S/16 at 224 pixels in bfloat16, on one GPU: keras_vit on the JAX and the PyTorch backend beside timm
with torch.compile, each in its own process with the largest batch that fits, a power of two. Says images/s, and the
share of a ceiling: the floating-point operations of the model, 2 for each multiply-accumulate of its products (3 times
as many in training), over the speed of a product of two square bfloat16 matrices that the same library measures first.

--tiny runs a tiny model on whatever device there is, to show that the script works; its figures say nothing.
"""

import argparse
import importlib.util
import json
import sys

import interleave

# hidden_size, num_layers, num_heads, mlp_dim; tokens
SIZES = {"ViT-B/16": (768, 12, 12, 3072), "ViT-S/16": (384, 12, 6, 1536), "tiny": (32, 2, 2, 64)}
PIXELS = {"ViT-B/16": 224, "ViT-S/16": 224, "tiny": 32}
CLASSES = 1000
CONTESTANTS = {"keras_vit, JAX": "jax", "keras_vit, PyTorch": "torch", "timm, torch.compile": None}
TASKS = ("forward", "train")
MOST_IMAGES = 4096
STEPS, WARM_UP = 20, 3


def operations(name, task):
    """Returns the floating-point operations of an image."""
    hidden_size, num_layers, _, mlp_dim = SIZES[name]
    tokens = (PIXELS[name] // 16) ** 2 + 1
    block = tokens * (4 * hidden_size**2 + 2 * hidden_size * mlp_dim) + 2 * tokens**2 * hidden_size
    patches = (tokens - 1) * 16 * 16 * 3 * hidden_size
    forward = 2 * (num_layers * block + patches + hidden_size * CLASSES)
    return forward * (3 if task == "train" else 1)


class Keras:
    """keras_vit on the backend of the process."""

    def __init__(self, name):
        import keras

        import keras_vit

        keras.config.set_dtype_policy("mixed_bfloat16")
        self.shape = (PIXELS[name], PIXELS[name], 3)
        hidden_size, num_layers, num_heads, mlp_dim = SIZES[name]
        variant = keras_vit.Variant(16, hidden_size, num_layers, num_heads, mlp_dim)
        options = {"input_shape": self.shape, "classes": CLASSES, "classifier_activation": None, "dropout": 0.0}
        self.model = keras_vit.build(variant, weights=None, gelu="erf", **options)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.AdamW(1e-3, 0.05), loss, jit_compile=keras.backend.backend() == "jax")

    def step(self, task, batch):
        """Returns a function that runs a step and waits for its end."""
        import numpy as np
        from keras import ops

        images = ops.convert_to_tensor(np.zeros((batch, *self.shape), "float32"))
        labels = ops.convert_to_tensor(np.zeros(batch, "int32"))
        if task == "train":
            return lambda: self.model.train_on_batch(images, labels)
        return lambda: self.model.predict_on_batch(images)

    def product(self, size):
        """Returns a function that multiplies two square matrices and waits for the end."""
        import keras
        from keras import ops

        matrix = ops.ones((size, size), "bfloat16")
        if keras.backend.backend() == "jax":
            import jax

            multiply = jax.jit(lambda x: x @ x)
            return lambda: multiply(matrix).block_until_ready()
        return torch_product(size)


def torch_product(size):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.ones(size, size, dtype=torch.bfloat16, device=device)

    def run():
        torch.matmul(matrix, matrix)
        _synchronize()

    return run


def _synchronize():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Timm:
    """timm with torch.compile, or eager with --tiny, as compiling needs a C++ compiler on a CPU."""

    def __init__(self, name):
        import contestants
        import torch

        contestants.declare_torchvision()
        from timm.models.vision_transformer import VisionTransformer

        hidden_size, num_layers, num_heads, mlp_dim = SIZES[name]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.shape = (3, PIXELS[name], PIXELS[name])
        model = VisionTransformer(
            PIXELS[name], 16, 3, CLASSES, "token", hidden_size, num_layers, num_heads, mlp_dim / hidden_size
        ).to(self.device)
        self.model = torch.compile(model) if name != "tiny" else model
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05, fused=True)

    def step(self, task, batch):
        """Returns a function that runs a step and waits for its end."""
        import torch

        images = torch.zeros(batch, *self.shape, device=self.device)
        labels = torch.zeros(batch, dtype=torch.long, device=self.device)
        self.model.train(task == "train")

        def forward():
            with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16):
                return self.model(images).float().cpu()

        def train():
            with torch.autocast(self.device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.item()

        return train if task == "train" else forward

    def product(self, size):
        """Returns a function that multiplies two square matrices and waits for the end."""
        return torch_product(size)


def work(contestant, name, task):
    """Prints a line of JSON for each batch that fits."""
    made = (Keras if CONTESTANTS[contestant] else Timm)(name)
    tiny = name == "tiny"
    size = 256 if tiny else 8192
    ceiling = 2 * size**3 / interleave.median_seconds(made.product(size), STEPS, WARM_UP)
    batch = 2 if tiny else 32
    while batch <= (4 if tiny else MOST_IMAGES):
        try:
            seconds = interleave.median_seconds(made.step(task, batch), STEPS, WARM_UP)
        except Exception as error:  # each library has its own error of a full memory
            if "memory" not in str(error).lower() and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            break
        print(json.dumps({"batch": batch, "speed": batch / seconds, "ceiling": ceiling}), flush=True)
        batch *= 2


def measure(contestant, name, task):
    """Returns the results of `work` in a process of its own."""
    work = json.dumps([contestant, name, task])
    return interleave.results_of(__file__, "--work", work, KERAS_BACKEND=CONTESTANTS[contestant] or "torch")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on any device")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*json.loads(options.work))
        return 0
    failures = []
    for name in ["tiny"] if options.tiny else ["ViT-B/16", "ViT-S/16"]:
        for task in TASKS:
            print(f"\n{name}, {task}\n{'':22}{'images':>8}{'images/s':>10}{'share of the product':>22}")
            for contestant, backend in CONTESTANTS.items():
                if not importlib.util.find_spec(backend or "timm"):
                    failures.append(f"{name}, {task}: {contestant}: {backend or 'timm'} is not installed")
                    continue
                try:
                    rows = measure(contestant, name, task)
                except RuntimeError as error:
                    failures.append(f"{name}, {task}: {contestant} does not run:\n{error}")
                    continue
                best = max(rows, key=lambda row: row["speed"])
                share = best["speed"] * operations(name, task) / best["ceiling"]
                print(f"{contestant:22}{best['batch']:8}{best['speed']:10.1f}{share:22.3f}", flush=True)
    print(*failures, sep="\n", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
