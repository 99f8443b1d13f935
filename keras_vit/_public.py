"""Imports the public names of the package, and registers its layers with Keras."""

from keras_vit import __all__
from keras_vit.builders import (
    BiT_R50x1,
    BiT_R50x2,
    BiT_R50x3,
    BiT_R101x1,
    BiT_R101x3,
    BiT_R152x1,
    BiT_R152x2,
    BiT_R152x4,
    BiT_R200x3,
    R26_ViT_B32,
    R26_ViT_S32,
    R50_ViT_B16,
    R50_ViT_B32,
    R50_ViT_L16,
    R50_ViT_L32,
    R_ViT_Ti16,
    ViT_B8,
    ViT_B16,
    ViT_B32,
    ViT_G14,
    ViT_g14,
    ViT_H14,
    ViT_L14,
    ViT_L16,
    ViT_L32,
    ViT_S8,
    ViT_S14,
    ViT_S16,
    ViT_S32,
    ViT_Ti16,
    build,
    load,
    load_weights,
)
from keras_vit.conversion import convert, save_checkpoint
from keras_vit.imagenet import decode_predictions
from keras_vit.models.config import ResNet, Variant
from keras_vit.models.features import features, representation
from keras_vit.models.interface import outputs_of, pixels_of
from keras_vit.models.resize import resize
from keras_vit.models.vision_model import VisionModel
from keras_vit.preprocessing import Pixels, preprocess_input
from keras_vit.weights.checkpoints import Checkpoint, augreg, checkpoints
