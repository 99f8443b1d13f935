"""Training step on TensorFlow, under any of its synchronous distribution strategies."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vit import _compat
from keras_vit.training.trainer import TrainerBase


@keras.saving.register_keras_serializable(package="keras_vit")
class TensorFlowTrainer(TrainerBase, _compat.BuiltBeforeFit, keras.Model):
    """Training step on TensorFlow: sums gradients over replicas, then clips; accumulates over parts of a batch.

    Keras' own step clips each replica's gradient before the sum, weights the mean of each replica equally and cannot
    accumulate under tf.distribute.
    """

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        _compat.expect_summed_gradients(self.optimizer)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of a step on (images, targets, weights)."""
        images, targets, weights = data
        total = _sum_over_replicas(tf.reduce_sum(weights))
        divisor, has_weight = self.divisor(total), total != 0
        variables = [variable.value for variable in self.trainable_variables]

        def part(images: Any, targets: Any, weights: Any) -> tuple[list[Any], tuple[Any, Any]]:
            with tf.GradientTape() as tape:
                loss, accuracy = self.weighted_sums(self(images, training=True), targets, weights)
                scaled = self.optimizer.scale_loss(loss / divisor) if self.scales_loss else loss / divisor
            return tape.gradient(scaled, variables, unconnected_gradients="zero"), (loss, accuracy)

        gradients, (loss, accuracy) = _accumulate(part, (images, targets, weights), variables, self.accumulation)
        *gradients, loss, accuracy = _sum_over_replicas([*gradients, loss, accuracy])
        loss = loss / divisor
        norm = tf.where(has_weight, tf.linalg.global_norm(self._unscaled(gradients)), 0.0)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        factor = self.gradient_factor(norm, finite)
        # A LossScaleOptimizer skips a batch that is not finite itself, and adapts its scale.
        self._apply([gradient * factor for gradient in gradients], has_weight & (finite | self.scales_loss))
        logs = {"loss": loss, "accuracy": accuracy / divisor, "weight": total, "gradient_norm": norm}
        return self._reducible(logs)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the means so far of an evaluation, after (images, targets, weights)."""
        images, targets, weights = data
        loss, accuracy = self.weighted_sums(self(images, training=False), targets, weights)
        self.update_means(loss, accuracy, tf.reduce_sum(weights))
        return self._reducible(self.get_metrics_result())

    def _apply(self, gradients: list[Any], condition: Any) -> None:
        """Applies the optimizer, or changes neither weights nor optimizer if the condition is false.

        Where the strategy merges the replicas within the optimizer, the condition must be outside of the merge, as in
        Keras' LossScaleOptimizer.
        """
        if _compat.steps_without_merge():
            _run_if(condition, lambda: self.optimizer.apply(gradients, self.trainable_variables))
        else:

            def merged(strategy: Any, gradients: list[Any], condition: Any) -> None:
                (first, *_) = _compat.replica_values(strategy, condition)  # the same on all replicas
                arguments = (gradients, self.trainable_variables)
                _run_if(first, lambda: strategy.extended.call_for_each_replica(self.optimizer.apply, arguments))

            tf.distribute.get_replica_context().merge_call(merged, (gradients, condition))

    def _unscaled(self, gradients: list[Any]) -> list[Any]:
        if not self.scales_loss:
            return gradients
        scale = self.optimizer.scale_loss(1.0)
        return [gradient / scale for gradient in gradients]

    def _reducible(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns logs of shape (1,) with several workers, as Keras reduces them along an axis there."""
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
        return logs


def _sum_over_replicas(values: Any) -> Any:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values) if context.num_replicas_in_sync > 1 else values


def _run_if(condition: Any, run: Callable[[], object]) -> None:
    def branch() -> bool:
        run()
        return True

    tf.cond(condition, branch, lambda: False)


def _accumulate(part: Callable[..., Any], batch: Sequence[Any], variables: list[Any], number: int) -> Any:
    """Returns the sums of `part` over the parts of a batch, computed one after the other."""
    if number == 1:
        return part(*batch)
    size = batch[0].shape[0] or tf.shape(batch[0])[0]
    batch = [tf.reshape(values, (number, size // number, *values.shape[1:])) for values in batch]
    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables], (tf.zeros(()),) * 2

    def add(i: Any, sums: Any) -> tuple[Any, Any]:
        return i + 1, tf.nest.map_structure(tf.add, sums, part(*(values[i] for values in batch)))

    return tf.while_loop(lambda i, _: i < number, add, (0, zeros), maximum_iterations=number)[1]
