"""A problem with its model: its answers to rows, and what they are worth. Fits and finished runs share it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np

from kft.data import store as stores
from kft.data import tokenise
from kft.data.batches import Batch
from kft.data.store import Store
from kft.data.streams import Stream
from kft.data.table import Table
from kft.evaluation import metric, slices
from kft.losses.objective import STREAM
from kft.tasks.task import Answers, Generated, Problem
from kft.text.tokens import Encoder
from kft.training import inference
from kft.training.devices import Devices
from kft.training.learner import RowValues


def stream_of(problem: Problem, table: Table, store: Store, preprocessor: Any) -> Stream:
    """The rows of a store as a network trains on them, or is evaluated by its losses.

    Args:
        problem: What is learnt.
        table: The rows that the store is made of, in the form that the network is trained on.
        store: Their tokens.
        preprocessor: The model's.
    """
    targets, terms = problem.examples.targets(table, store), problem.objective.of_stream(STREAM)
    return Stream(
        store,
        targets,
        {term.name: np.asarray(term.row_weights(targets, store), np.float32) for term in terms},
        {term.name: np.asarray(term.count(targets, store), np.float32) for term in terms},
        problem.examples.collate(preprocessor),
    )


class Fitted:
    """A problem and a model of it.

    Args:
        problem: What was learnt.
        model: The KerasHub task model.
        network: (number of text columns) to the model from token features to named outputs, of the same layers.
        texts: The text columns that it is trained on.
        devices: Where it computes.
    """

    def __init__(
        self,
        problem: Problem,
        model: Any,
        network: Callable[[int], keras.Model],
        texts: Sequence[str],
        devices: Devices,
    ):
        self.problem, self.model, self.network = problem, model, network
        self.texts, self.devices = list(texts), devices
        self.encoder = functools.cache(
            lambda num_texts: Encoder(model.preprocessor, num_texts, problem.examples.features)
        )

    @property
    def answered_texts(self) -> list[str]:
        """The text columns that it answers by."""
        return self.problem.schema.answered_columns(self.texts)

    def stream(self, table: Table) -> Stream:
        """The rows of a table with all canonical columns, as the network is evaluated on them by its losses."""
        examples = self.problem.examples
        rows = examples.rows(table)
        store = self._encoded(rows, self.texts)
        store = examples.pack(store, self.encoder(len(self.texts)).max_length, None)
        return stream_of(self.problem, rows, store, self.model.preprocessor)

    def answers(self, table: Table, store: Store | None = None, *, batch_size: int) -> dict[str, np.ndarray]:
        """The answers to the rows of a table, as arrays in their order.

        Args:
            table: With the canonical text columns.
            store: Its tokens, if they are there already.
            batch_size: Rows in one forward pass.
        """
        predictor = self.problem.predictor
        if isinstance(predictor, Generated):
            columns = [table.rows[name] for name in self.answered_texts]
            return inference.responded(self._respond, columns, batch_size)
        parts = self._slices(table, store, batch_size)
        return inference.concatenated([predictor.answers(part.outputs, part.extras, part.texts) for part in parts])

    def scores(
        self, table: Table, store: Store | None = None, stream: Stream | None = None, *, batch_size: int
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Metrics of the rows of a table, and the answers that they are of, if there are any.

        Args:
            table: With all canonical columns.
            store: Its tokens, if they are there already.
            stream: The rows as the network is evaluated on them by its losses, if they are there already.
            batch_size: Rows in one forward pass.
        """
        has_answers = self.problem.evaluator.has_answers
        answers = self.answers(table, store, batch_size=batch_size) if has_answers else {}
        return self._judged(table, answers, stream, batch_size), answers

    def scores_by(
        self, table: Table, values: Sequence[str | None], answers: Answers, column: str, *, batch_size: int
    ) -> dict[str, dict[str, Any]]:
        """Metrics of the rows of each value of a column, as if they were all there are.

        Args:
            table: With all canonical columns.
            values: The column's value of each row; rows of None are in no part.
            answers: To the rows of the table, as `scores` gives them.
            column: Its name, for messages.
            batch_size: Rows in one forward pass, of problems that are judged by their losses.
        """
        scores = {}
        for value, rows in slices.by_values(values, column).items():
            of_rows = {name: answered[rows] for name, answered in answers.items()}
            found = self._judged(table.take(rows), of_rows, None, batch_size)
            scores[value] = {**found, "num_rows": len(rows)}
        return scores

    def _judged(self, table: Table, answers: Answers, stream: Stream | None, batch_size: int) -> dict[str, Any]:
        """The metrics of answers, and of the losses where there are metrics of them."""
        evaluator = self.problem.evaluator
        scores = evaluator.of_answers(answers, table) if evaluator.has_answers else {}
        if not evaluator.is_by_losses:
            return scores
        means = self.mean_losses(self.stream(table) if stream is None else stream, batch_size=batch_size)
        return {**evaluator.of_losses(means), **scores}

    def validated(self, table: Table, stream: Stream, num_updates: int, *, batch_size: int) -> dict[str, float]:
        """What judges a model while it trains: its loss and the single numbers among its metrics.

        Args:
            table: With all canonical columns.
            stream: The same rows as the network is trained on them.
            num_updates: Updates made so far, which weights of terms may depend on.
            batch_size: Rows of a batch in training, since some losses compare the rows of one.
        """
        evaluator, predictor = self.problem.evaluator, self.problem.predictor
        if evaluator.is_by_losses:
            return dict(evaluator.of_losses(self.mean_losses(stream, batch_size=2 * batch_size)))
        assert not isinstance(predictor, Generated), "a problem of several passes is judged by its losses"
        terms = self.problem.objective.of_stream(STREAM)
        weights = {term.name: stream.term_weights(term.name) for term in terms}
        answers, sums = [], dict.fromkeys(weights, 0.0)
        for part in self._slices(table, stream.store, 2 * batch_size):
            length, count = int(part.store.lengths.max()), part.rows.stop - part.rows.start
            for start in range(0, count, batch_size):
                rows = np.arange(start, min(start + batch_size, count))
                batch = Batch(part.rows.start + rows, length)
                outputs = {name: values[rows] for name, values in part.outputs.items()}
                targets = {name: stream.store.targets_of(values, batch) for name, values in stream.targets.items()}
                for term in terms:
                    loss = term.of_batch(outputs, targets, weights[term.name][batch.rows])
                    sums[term.name] += float(keras.ops.convert_to_numpy(loss))
            answers.append(predictor.answers(part.outputs, part.extras, part.texts))
        loss = 0.0
        for term in terms:
            weight = float(keras.ops.convert_to_numpy(term.weight_at(float(num_updates))))
            loss += weight * sums[term.name] / max(float(weights[term.name].sum()), 1e-12)
        scores = metric.scalars(evaluator.of_answers(inference.concatenated(answers), table))
        return {"loss": loss, **scores}

    def mean_losses(self, stream: Stream, *, batch_size: int) -> dict[str, float]:
        """The weighted mean over the rows of each term's loss, and of the evaluator's further values."""
        values = inference.row_values(self._row_values, stream, self.devices, batch_size)
        means = {}
        for name, each in values.items():
            weights = stream.term_weights(name) if name in stream.counts else np.ones(len(each))
            means[name] = float(each @ weights.astype(np.float64) / max(float(weights.sum(dtype=np.float64)), 1e-12))
        return means

    def _slices(self, table: Table, store: Store | None, batch_size: int) -> Any:
        """The outputs for the rows of a table, slice by slice."""
        known = dict.fromkeys([*self.texts, *self.problem.schema.derived])
        names = [name for name in known if name in table.names()]
        store = self._encoded(table, names) if store is None else store
        columns = [table.rows[name] for name in names]
        return inference.slices(self.network(len(names)), store, columns, self.devices, batch_size)

    @cached_property
    def _row_values(self) -> RowValues:
        """The losses of each row, and the evaluator's further values."""
        values: dict[str, Callable[[Any, Any, Any], Any]] = {
            term.name: term.of_rows for term in self.problem.objective.of_stream(STREAM)
        }

        def without_weights(value: Any) -> Callable[[Any, Any, Any], Any]:
            return lambda outputs, targets, is_real: value(outputs, targets)

        further: Mapping[str, Any] = self.problem.evaluator.values
        values |= {name: without_weights(value) for name, value in further.items()}
        model = RowValues(self.network(len(self.texts)), values)
        model.jit_compile = self.devices.jit_compile
        return model

    @cached_property
    def _respond(self) -> Any:
        """The function from texts to answers."""
        assert isinstance(self.problem.predictor, Generated)
        return self.problem.predictor.respond(self.model)

    def _encoded(self, table: Table, names: list[str]) -> Store:
        """Tokens of a table; more than a slice of rows goes by way of the disk."""
        columns, encoder = [table.rows[name] for name in names], self.encoder(len(names))
        if len(table) > stores.SLICE_ROWS:
            return tokenise.tokenise(table, names, encoder, tokenise.fingerprint(self.model.preprocessor))
        return stores.in_memory(encoder(next(stores.sliced(columns, len(table)))), encoder)
