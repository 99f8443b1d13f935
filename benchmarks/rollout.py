"""Compares the time of attention rollout with that of a forward pass: ViT-B/16 at 224 x 224, random weights.

    python benchmarks/rollout.py

Rounds alternate between the two; the ratio is of the medians. Exits with status 1 if it is above 1.3.
"""

import interleave
import numpy as np

import keras_vit
from keras_vit.analysis.attention import attention_rollout

IMAGES, ROUNDS = 32, 7
TARGET = 1.3


def main():
    model = keras_vit.ViT_B16(weights=None)
    images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 224, 224, 3)).astype("float32")
    functions = {
        "forward": lambda: model.predict(images, batch_size=8, verbose=0),
        "rollout": lambda: attention_rollout(model, images),
    }
    median = interleave.medians(functions, ROUNDS)
    for name, value in median.items():
        print(f"{name}: {value:.2f} s for {IMAGES} images")
    ratio = median["rollout"] / median["forward"]
    print(f"rollout / forward: {ratio:.2f}")
    if ratio > TARGET:
        raise SystemExit(f"above {TARGET}")


if __name__ == "__main__":
    main()
