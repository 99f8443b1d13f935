"""Training step on JAX, where a batch over many devices is one array."""

from collections.abc import Sequence
from typing import Any

import jax
import keras
from jax import numpy as jnp

from keras_vit.training.trainer import TrainerBase


@keras.saving.register_keras_serializable(package="keras_vit")
class JaxTrainer(TrainerBase, keras.Model):
    """Training step on JAX: a function from one state to the next."""

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """Returns the logs of a step on (images, targets, weights), and the next state."""
        trainable, others, optimizer, metrics = state
        total = jnp.sum(data[2])
        divisor, has_weight = self.divisor(total), total != 0
        scale = self._loss_scale(optimizer)

        def part_loss(trainable: Any, others: Any, images: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
            outputs, others = self.stateless_call(trainable, others, images, training=True)
            loss, accuracy = self.weighted_sums(outputs, targets, weights)
            return loss / divisor * scale, (others, jnp.stack([loss, accuracy]))

        def part(others: Any, batch: Any) -> tuple[Any, Any]:
            gradients, (others, sums) = jax.grad(part_loss, has_aux=True)(trainable, others, *batch)
            return others, (gradients, sums)

        def add(carry: Any, batch: Any) -> tuple[Any, None]:
            others, sums = carry
            others, more = part(others, batch)
            return (others, jax.tree.map(jnp.add, sums, more)), None

        if self.accumulation == 1:
            others, (gradients, sums) = part(others, data)
        else:
            zeros = [jnp.zeros_like(value) for value in trainable], jnp.zeros(2)
            (others, (gradients, sums)), _ = jax.lax.scan(add, (others, zeros), _parts(data, self.accumulation))

        loss, accuracy = sums / divisor
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient / scale)) for gradient in gradients))
        norm = jnp.where(has_weight, norm, 0.0)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        factor = self.gradient_factor(norm, finite)
        gradients = [gradient * factor for gradient in gradients]
        updated = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        # A LossScaleOptimizer skips a batch that is not finite itself, and adapts its scale.
        changes = has_weight & (finite | self.scales_loss)
        trainable, optimizer = jax.tree.map(
            lambda new, old: jnp.where(changes, new, old), tuple(map(list, updated)), (list(trainable), list(optimizer))
        )
        logs = {"loss": loss, "accuracy": accuracy, "weight": total, "gradient_norm": norm}
        return logs, (trainable, others, optimizer, metrics)

    def test_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """Returns the means so far of an evaluation, after (images, targets, weights), and the next state."""
        trainable, others, metrics = state
        images, targets, weights = data
        outputs, others = self.stateless_call(trainable, others, images, training=False)
        loss, accuracy = self.weighted_sums(outputs, targets, weights)
        with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, metrics))) as scope:
            self.update_means(loss, accuracy, jnp.sum(weights))
            logs = self.get_metrics_result()
        metrics = [scope.get_current_value(variable) for variable in self.metrics_variables]
        return logs, (trainable, others, metrics)

    def _loss_scale(self, optimizer: Any) -> Any:
        if not self.scales_loss:
            return 1.0
        with keras.StatelessScope(state_mapping=list(zip(self.optimizer.variables, optimizer))):
            return self.optimizer.scale_loss(1.0)


def _parts(batch: Sequence[Any], number: int) -> list[Any]:
    """Returns a batch's arrays as (parts, images, ...); a part has every `number`-th image, some on each device."""
    return [jnp.moveaxis(values.reshape(-1, number, *values.shape[1:]), 1, 0) for values in batch]
