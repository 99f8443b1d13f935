"""Evaluation of models: accuracy, calibration, few-shot, kNN and linear probes, wrong labels, robustness and cost.

    scores = keras_vit.evaluation.score(model, [(images, labels)])
    scores.accuracy, scores.confusion_matrix, scores.per_class_accuracy, scores.most_confident_mistakes

The functions expect a built model and arrays or batches of images; they know no data set.
"""

from keras_vit.evaluation import callbacks
from keras_vit.evaluation.accuracy import Scores, score, wilson_interval
from keras_vit.evaluation.calibration import Calibration, calibration
from keras_vit.evaluation.corruptions import CORRUPTIONS, corrupt
from keras_vit.evaluation.cost import Cost, cost, pretraining_exaflops
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.few_shot import FewShotResult, few_shot, few_shot_images
from keras_vit.evaluation.label_errors import LabelErrors, label_errors
from keras_vit.evaluation.labels import LabelScores, choose_thresholds, score_labels
from keras_vit.evaluation.numbers import NumberScores, score_numbers
from keras_vit.evaluation.probes import knn, linear_probe, probe_head
from keras_vit.evaluation.real_labels import read_real_labels, real_accuracy, validation_order
from keras_vit.evaluation.reject import FalseRejects, false_rejects, fit_reject, with_reject
from keras_vit.evaluation.robustness import ModelWithImages, Robustness, RobustnessRow, robustness_curves
from keras_vit.models.reject import Reject

__all__ = [
    "CORRUPTIONS",
    "Calibration",
    "Cost",
    "FalseRejects",
    "FewShotResult",
    "LabelErrors",
    "LabelScores",
    "ModelWithImages",
    "NumberScores",
    "Reject",
    "Robustness",
    "RobustnessRow",
    "Scores",
    "calibration",
    "callbacks",
    "choose_thresholds",
    "corrupt",
    "cost",
    "extract_features",
    "false_rejects",
    "few_shot",
    "few_shot_images",
    "fit_reject",
    "knn",
    "label_errors",
    "linear_probe",
    "pretraining_exaflops",
    "probe_head",
    "read_real_labels",
    "real_accuracy",
    "robustness_curves",
    "score",
    "score_labels",
    "score_numbers",
    "validation_order",
    "wilson_interval",
    "with_reject",
]
