"""What all fine-tuning of the paper has in common.

Source: arXiv:2010.11929, section 4.1 and table 4; vit_jax configs/common.py, configs/models.py and input_pipeline.py.
"""

FINE_TUNING = {
    "variant": "ViT-B/16",
    "image_size": 384,
    "weights": "imagenet21k",  # the paper's own file is vit_b16_in21k
    "dropout": 0.0,  # 0.1 for ViT-L/16, ViT-H/14 and R50+ViT-B/16; configs/models.py
    "crop": "inception",
    "flip": True,
    "evaluation": "official",
    "batch_size": 512,
    "accumulation": 8,  # to save memory; the result does not depend on it
    "optimizer": "sgd",
    "momentum": 0.9,  # momentum_dtype="bfloat16" saves memory, as the official code does
    "schedule": "cosine",
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "label_smoothing": 0.0,
}
