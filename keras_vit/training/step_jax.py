"""The training step on JAX, where a batch over many devices is one array."""

import jax
import keras
from jax import numpy as jnp

from keras_vit.training.trainer import StepParts


@keras.saving.register_keras_serializable(package="keras_vit")
class JaxTrainer(StepParts, keras.Model):
    """Steps on JAX, as functions from one state to the next."""

    def train_step(self, state, data):
        trainable, rest, optimizer, metrics = state
        total = jnp.sum(data[2])
        scale = self._loss_scale(optimizer)

        def part_loss(trainable, rest, images, targets, weights):
            logits, rest = self.stateless_call(trainable, rest, images, training=True)
            loss, right = self.weighted(logits, targets, weights)
            return loss / total * scale, (rest, jnp.stack([loss, right]))

        def part(rest, batch):
            gradients, (rest, sums) = jax.grad(part_loss, has_aux=True)(trainable, rest, *batch)
            return rest, (gradients, sums)

        def add(carried, batch):
            rest, sums = carried
            rest, more = part(rest, batch)
            return (rest, jax.tree.map(jnp.add, sums, more)), None

        if self.accumulation == 1:
            rest, (gradients, sums) = part(rest, data)
        else:
            zeros = [jnp.zeros_like(value) for value in trainable], jnp.zeros(2)
            (rest, (gradients, sums)), _ = jax.lax.scan(add, (rest, zeros), _parts(data, self.accumulation))

        loss, accuracy = sums / total
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient / scale)) for gradient in gradients))
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        factor = self.factor(norm, finite)
        gradients = [gradient * factor for gradient in gradients]
        moved = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        changes = finite | self.scales_loss  # the optimizer decides itself then, and adapts its scale
        trainable, optimizer = jax.tree.map(
            lambda new, old: jnp.where(changes, new, old), tuple(map(list, moved)), (list(trainable), list(optimizer))
        )
        logs = {"loss": loss, "accuracy": accuracy, "weight": total, "gradient_norm": norm}
        return logs, (trainable, rest, optimizer, metrics)

    def test_step(self, state, data):
        trainable, rest, metrics = state
        images, targets, weights = data
        logits, rest = self.stateless_call(trainable, rest, images, training=False)
        loss, right = self.weighted(logits, targets, weights)
        with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, metrics))) as scope:
            self.update_means(loss, right, jnp.sum(weights))
            logs = self.get_metrics_result()
        metrics = [scope.get_current_value(variable) for variable in self.metrics_variables]
        return logs, (trainable, rest, metrics)

    def _loss_scale(self, optimizer):
        if not self.scales_loss:
            return 1.0
        with keras.StatelessScope(state_mapping=list(zip(self.optimizer.variables, optimizer))):
            return self.optimizer.scale_loss(1.0)


def _parts(batch, number):
    """Returns a batch as (parts, rows, ...); every so-many-th row, so that a part lies on all devices."""
    return [jnp.moveaxis(values.reshape(-1, number, *values.shape[1:]), 1, 0) for values in batch]
