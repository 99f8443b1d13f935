"""The training step on TensorFlow, under any of its synchronous strategies."""

import keras
import tensorflow as tf

from keras_vit import _compat
from keras_vit.training.trainer import StepParts


@keras.saving.register_keras_serializable(package="keras_vit")
class TensorFlowTrainer(StepParts, _compat.BuiltBeforeFit, keras.Model):
    """Steps on TensorFlow.

    Keras' own step clips each replica's gradient before they are summed, gives each replica's mean the same say and
    cannot accumulate under tf.distribute; so sum, clip and parts are here.
    """

    def train_step(self, data):
        images, targets, weights = data
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        total = _over_replicas(tf.reduce_sum(weights))
        variables = [variable.value for variable in self.trainable_variables]

        def part(images, targets, weights):
            with tf.GradientTape() as tape:
                loss, right = self.sums(images, targets, weights, training=True)
                scaled = self.optimizer.scale_loss(loss / total) if self.scales_loss else loss / total
            return tape.gradient(scaled, variables, unconnected_gradients="zero"), (loss, right)

        gradients, (loss, right) = _in_parts(part, (images, targets, weights), variables, self.accumulation)
        *gradients, loss, right = _over_replicas([*gradients, loss, right])
        loss = loss / total
        norm = tf.linalg.global_norm(self._unscaled(gradients))
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        factor = self.factor(norm, finite) / replicas  # the optimizer sums over the replicas once more
        self._apply([gradient * factor for gradient in gradients], finite)
        return self._for_all({"loss": loss, "accuracy": right / total, "weight": total, "gradient_norm": norm})

    def test_step(self, data):
        images, targets, weights = data
        loss, right = self.sums(images, targets, weights, training=False)
        self.update_means(loss, right, tf.reduce_sum(weights))
        return self._for_all(self.get_metrics_result())

    def _apply(self, gradients, finite):
        """Takes the optimizer's step, or leaves weights and optimizer as they are if the batch is not finite.

        Where the strategy merges replicas within the optimizer, a branch has to stand around all of them: as in Keras'
        LossScaleOptimizer, which branches itself.
        """
        if self.scales_loss:
            self.optimizer.apply(gradients, self.trainable_variables)
        elif _compat.steps_without_merge():
            _run_if(finite, lambda: self.optimizer.apply(gradients, self.trainable_variables))
        else:

            def merged(strategy, gradients, finite):
                (first, *_) = _compat.replica_values(strategy, finite)  # the same on all replicas
                arguments = (gradients, self.trainable_variables)
                _run_if(first, lambda: strategy.extended.call_for_each_replica(self.optimizer.apply, arguments))

            tf.distribute.get_replica_context().merge_call(merged, (gradients, finite))

    def _unscaled(self, gradients):
        if not self.scales_loss:
            return gradients
        scale = self.optimizer.scale_loss(1.0)
        return [gradient / scale for gradient in gradients]

    def _for_all(self, logs):
        """Gives each number a dimension where workers are many: Keras reduces them along one there."""
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
        return logs


def _over_replicas(values):
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values) if context.num_replicas_in_sync > 1 else values


def _run_if(condition, run):
    def branch():
        run()
        return True

    tf.cond(condition, branch, lambda: False)


def _in_parts(part, batch, variables, number):
    """Returns the sums over a batch's parts, worked on one after the other."""
    if number == 1:
        return part(*batch)
    rows = batch[0].shape[0] or tf.shape(batch[0])[0]
    batch = [tf.reshape(values, (number, rows // number, *values.shape[1:])) for values in batch]
    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables], (tf.zeros(()),) * 2

    def add(i, sums):
        return i + 1, tf.nest.map_structure(tf.add, sums, part(*(values[i] for values in batch)))

    return tf.while_loop(lambda i, _: i < number, add, (0, zeros), maximum_iterations=number)[1]
