"""Training step on PyTorch, on one device or in a process for each device."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from keras_vit.models.lean import LeanModel
from keras_vit.training.trainer import TrainerBase

# Between the seeds of two processes, whose layers count up from theirs at each draw.
PROCESS_STRIDE = 2**24


@keras.saving.register_keras_serializable(package="keras_vit")
class TorchTrainer(TrainerBase, LeanModel):
    """Training step on PyTorch: sums gradients over parts of a batch and over processes, then clips.

    Keras' own step uses one process and cannot accumulate over parts of a batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_seed = torch.initial_seed()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of a step on (images, targets, weights)."""
        self._seed_step()
        total = _sum_over_processes(data[2].sum())
        divisor, has_weight = self.divisor(total), total != 0
        scale = self.optimizer.scale_loss(torch.ones_like(total)) if self.scales_loss else torch.ones_like(total)
        gradients, sums = self._gradients(data, scale / divisor)
        loss, accuracy = _sum_over_processes(sums) / divisor
        norm = torch.where(has_weight, torch.nn.utils.get_total_norm(gradients) / scale, 0.0)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        # A LossScaleOptimizer skips a batch that is not finite itself, and adapts its scale.
        if has_weight & (finite | self.scales_loss):
            factor = self.gradient_factor(norm, finite)
            with torch.no_grad():
                self.optimizer.apply([gradient.mul_(factor) for gradient in gradients], self.trainable_variables)
        return {"loss": loss, "accuracy": accuracy, "weight": total, "gradient_norm": norm}

    @torch.enable_grad()  # type: ignore[untyped-decorator]
    def _gradients(self, batch: Any, scale: Any) -> tuple[list[Any], Any]:
        """Returns the gradients of a batch's loss, and the sums of its loss and accuracy in this process.

        Args:
            batch: (images, targets, weights).
            scale: factor on the sum of the loss.
        """
        self.zero_grad()
        sums = []
        parts = list(zip(*(values.chunk(self.accumulation) for values in batch)))
        for number, (images, targets, weights) in enumerate(parts, 1):
            with self._network.no_sync() if _processes() > 1 and number < len(parts) else contextlib.nullcontext():
                loss, accuracy = self.weighted_sums(self._network(images, training=True), targets, weights)
                (loss * scale * _processes()).backward()  # DistributedDataParallel takes the mean over the processes
            sums.append(torch.stack([loss, accuracy]).detach())
        values = [variable.value for variable in self.trainable_variables]
        gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in values]
        return gradients, sum(sums)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the means so far of an evaluation, after (images, targets, weights)."""
        images, targets, weights = data
        loss, accuracy = self.weighted_sums(self(images, training=False), targets, weights)
        self.update_means(*_sum_over_processes(torch.stack([loss, accuracy, weights.sum()])))
        return self.get_metrics_result()

    @functools.cached_property
    def _network(self) -> Any:
        """The model; with several processes, one that exchanges its gradients."""
        if _processes() == 1:
            return self
        network = DistributedDataParallel(self, find_unused_parameters=True)
        for variable in self.variables:
            if variable.name == "seed_generator_state":  # the same in all processes, which draw for other images
                variable.assign(variable + _process() * PROCESS_STRIDE)
        return network

    def _seed_step(self) -> None:
        """Seeds PyTorch's own generators, which dropout draws from, so that a resumed run draws as an uninterrupted."""
        state = np.random.SeedSequence((self.first_seed, int(self.optimizer.iterations), _process()))
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))


def batches_on_torch(dataset: Any) -> torch.utils.data.DataLoader:
    """Returns the batches of a tf.data.Dataset as PyTorch's tensors, which share its memory on a CPU."""
    return torch.utils.data.DataLoader(_Batches(dataset), batch_size=None)


class _Batches(torch.utils.data.IterableDataset):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        for batch in self.dataset:
            yield tuple(keras.ops.convert_to_tensor(torch.from_dlpack(values)) for values in batch)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _process() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _sum_over_processes(values: Any) -> Any:
    if _processes() > 1:
        distributed.all_reduce(values)
    return values
