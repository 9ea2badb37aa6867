"""Generation: a text that responds to a prompt, as a summary, a translation, an answer or the next turn of a talk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.accelerate import packed_attention
from kft.data import packing, task_columns
from kft.data.cells import made_anew
from kft.data.faults import Faults
from kft.data.messages import BLANK
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import DataError, RecipeError
from kft.evaluation import overlap, perplexity, worst_rows
from kft.losses.objective import Objective, Term
from kft.losses.tokens import num_tokens, token_crossentropy
from kft.models import generators
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Answers, Build, Evaluator, Examples, Generated, Labels, Problem, Schema, Targets, Task, View
from kft.text import generation as graph
from kft.text import prompts

BETWEEN = "\n\n"
SETTINGS = ("max_new_tokens", "decoding", "num_beams", "top_k", "top_p", "temperature", "stop", "seed")


def prepare(table: Table, template: int = prompts.NEWEST) -> Table:
    """Inputs join their instructions; conversations become prompts and the responses to them, null where none is."""
    if "input" in table.names():
        prompts_, inputs = (table.rows[name] for name in ("prompt", "input"))
        is_blank = pc.match_substring_regex(inputs, BLANK)
        both = pc.binary_join_element_wise(prompts_, inputs, pa.scalar(BETWEEN, pa.large_string()))
        rows = table.rows.drop_columns(["input"])
        joined = pc.if_else(is_blank, prompts_, both)
        table = replace(table, rows=rows.set_column(rows.column_names.index("prompt"), "prompt", joined))
        table = table.with_notes(
            f"{table.source}: the prompt is the instruction, an empty line and the input, where a row has one "
            f"({pc.sum(pc.invert(is_blank)).as_py():,} of {len(table):,} rows)."
        )
    if "messages" not in table.names():
        return table
    if "response" in table.names():
        raise DataError(f"{table.source}: found messages and a response; expected either, as the last turn responds.")
    rows = table.rows
    for place, name in enumerate(("prompt", "response")):
        column = made_anew(
            table, "messages", lambda turns, place=place: prompts.split(turns, template)[place], pa.large_string()
        )
        rows = rows.append_column(name, column)
    return replace(table, rows=rows)


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """How responses are written; refuses rows that have none."""
    if recipe.transfer == "features":
        raise RecipeError(
            "transfer=features trains a new head on a frozen backbone, and generate has none. Ask for transfer=full."
        )
    settings = {"generation": {name: getattr(recipe, name) for name in SETTINGS}, "template": prompts.NEWEST}
    return {**settings, "objective": "packed"} if recipe.packing else settings


def check(table: Table) -> None:
    """Refuses conversations that do not end with the assistant's turn."""
    faults = Faults(len(table))
    for index in np.flatnonzero(pc.is_null(table.rows["response"]).to_numpy()).tolist():
        turns = table.rows["messages"][index].as_py()
        has_any = any(turn["role"] == "assistant" for turn in turns)
        what = f"ends with the {turns[-1]['role']}'s turn" if has_any else "has no turn of the assistant"
        faults.add(index, f"{table.where(index)}: the conversation {what}; expected the assistant's as its last.")
    faults.refuse()


def targets(table: Table, tokens: Store) -> Targets:
    """The `tokens` that follow those of the response and the last of the prompt, -1 elsewhere."""
    return {"tokens": _aligned(tokens)}


def _aligned(tokens: Store) -> Aligned:
    name = next(name for name in tokens.features if name.endswith(graph.TARGETS))
    return Aligned(np.asarray(tokens.features[name]), group=tokens.group_of(name), pad=graph.NOT_LEARNT)


def token_notes(preprocessor: Any, tokens: Store, table: Table) -> list[str]:
    """A note where responses were too long and have lost their end. Each of those fills a row of the store."""
    aligned = _aligned(tokens)
    last = aligned.values[tokens.offsets[aligned.group][1:] - 1]
    count = int((last != preprocessor.tokenizer.end_token_id).sum())
    if not count:
        return []
    number = len(tokens.sources(np.arange(len(tokens))))
    return [
        f"train: {count:,} of {number:,} responses do not fit into max_length={preprocessor.sequence_length}; "
        "what is more of them is not learnt, nor where they end. Ask for a larger max_length."
    ]


def build_of(settings: Mapping[str, Any], *, is_packed: bool) -> Build:
    """KerasHub's CausalLM or Seq2SeqLM, whose logits come from the pretrained network as they are."""
    if not is_packed:
        return Build(partial(generators.generator, settings=settings))

    def model(preset: Preset, **others: Any) -> Any:
        packed_attention.refuse_others(preset)
        return generators.generator(preset, settings, **others)

    return Build(model, packed_attention.network)


def loss(outputs: Any, targets: Any) -> Any:
    """Cross-entropy over the tokens of the response."""
    return token_crossentropy(outputs["logits"], targets["tokens"])


def unserved(settings: Mapping[str, Any]) -> str | None:
    """Why an export is refused: responses that are drawn cannot be compared with those of predict."""
    decoding = settings["decoding"]
    if decoding not in generators.DRAWN:
        return None
    return (
        f"its responses are drawn at random (decoding={decoding}), so that no export can be shown to respond as "
        "predict does. Fit with decoding=greedy or beam to export."
    )


def of_losses(means: Mapping[str, float]) -> dict[str, float]:
    """The mean loss of a token, and the perplexity that it stands for."""
    return {"loss": means["tokens"], "perplexity": perplexity.of_loss(means["tokens"])}


def scored(answers: Answers, table: Table) -> dict[str, Any]:
    """ROUGE, BLEU, chrF and exact match of the generated texts."""
    return overlap.scored(_texts(answers), table.texts("response"))


def _texts(answers: Answers) -> list[str]:
    return [text.decode() for text in answers["text"].tolist()]


def view(answers: Answers, table: Table) -> View:
    """The texts that share least with the truth."""
    texts, truths = _texts(answers), table.texts("response")
    shared = [overlap.rouge(text, truth)["rougeL"] for text, truth in zip(texts, truths, strict=True)]
    return worst_rows.generated(truths, texts, shared, table)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of responding to prompts."""
    # Conversations are written by the template that the run was trained with; the first runs do not name it.
    template = labels.get("template", prompts.FIRST)
    prompts.check(template)
    settings, is_packed = labels["generation"], labels.get("objective") == "packed"
    examples = Examples(graph.encode, targets, token_notes=token_notes)
    return Problem(
        labels,
        replace(SCHEMA, prepare=partial(prepare, template=template)),
        replace(examples, pack=packing.pack) if is_packed else examples,
        build_of(settings, is_packed=is_packed),
        Objective((Term("tokens", loss, count=num_tokens("tokens")),)),
        Generated(lambda model: generators.respond(model, settings), unserved(settings)),
        # While it trains nothing is generated.
        Evaluator(("perplexity",), ("loss",), of_answers=scored, of_losses=of_losses, view=view),
    )


SCHEMA = Schema(task_columns.COLUMNS["generate"], prepare=prepare, check=check, answered=("prompt",))
GENERATE = Task("generate", SCHEMA, learn, restore)
