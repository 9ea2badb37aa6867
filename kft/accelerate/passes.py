"""The passes: optimisations of a network that do not change what it computes, in the order in which they are applied.

A pass says of a network whether it fits, and why not, so that nothing loses its speed without a word. All can be
switched off together or one by one, by the Recipe's `accelerate`. Whatever adds variables to a network, such as LoRA,
comes before them: a pass has to see the layers as they are to be trained. The network that comes out is to be called;
one built anew from its inputs and outputs would be without its passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError, did_you_mean, quoted

if TYPE_CHECKING:
    import keras
    import numpy as np

    from kft.data.store import Store


@dataclass(frozen=True)
class Facts:
    """What the passes are told.

    Attributes:
        network: Token features to raw outputs, before any pass; adapters are in it.
        model: The KerasHub task whose layers these are.
        backend: The Keras backend: tensorflow, jax or torch.
        platform: cpu, gpu or tpu.
        stores: The tokens of all that the network is trained on; none where it only predicts.
        is_collated_anew: Whether the network is trained on other tokens than those, as where some are masked.
        num_devices: Devices that share each batch.
    """

    network: keras.Model
    model: Any
    backend: str
    platform: str
    stores: Sequence[Store] = ()
    is_collated_anew: bool = False
    num_devices: int = 1

    @property
    def is_training(self) -> bool:
        """Whether the network is trained, rather than asked."""
        return bool(self.stores)

    @cached_property
    def tables(self) -> list[Any]:
        """The embedding tables of which a part can be trained by itself."""
        from kft.accelerate import sparse_embeddings

        return sparse_embeddings.tables_of(self.network, self.model.backbone)

    @cached_property
    def token_ids(self) -> np.ndarray | None:
        """The tokens in the training data, ascending; None where the features have other numbers."""
        from kft.accelerate import sparse_embeddings

        return sparse_embeddings.token_ids(self.stores, self.network.input, self.model.backbone.vocabulary_size)


@dataclass(frozen=True)
class Pass:
    """One optimisation.

    Attributes:
        name: What the Recipe's `accelerate` calls it.
        gives: What it does, in a sentence.
        fits: From facts to why it does not apply, or None where it does.
        apply: From network and facts to the network with it, and what of the network it leaves out, if anything.
        needed: From facts to why training would be wrong without it, or None where it can be switched off.
    """

    name: str
    gives: str
    fits: Callable[[Facts], str | None]
    apply: Callable[[keras.Model, Facts], tuple[keras.Model, str]]
    needed: Callable[[Facts], str | None] = lambda facts: None


@dataclass(frozen=True)
class Decision:
    """Whether a pass was applied, and why not, or what it left out.

    Attributes:
        name: Of the pass.
        is_applied: Whether the network has it.
        note: The reason if it was not applied; otherwise what it does not reach, or nothing.
    """

    name: str
    is_applied: bool
    note: str = ""


def applied(facts: Facts, asked: bool | str = True) -> tuple[keras.Model, tuple[Decision, ...]]:
    """A new network of the same layers with the passes that were asked for and fit.

    Args:
        facts: What they are told.
        asked: The Recipe's `accelerate`.

    Raises:
        RecipeError: Training would be wrong without one that is switched off.
    """
    import keras

    names, decisions, given = names_of(asked), [], facts.network
    network = keras.Model(given.input, given.output)
    if type(given).call is not type(network).call or "call" in vars(given):
        network.call = given.call
    facts = replace(facts, network=network)  # a task model holds the layers of its backbone a second time
    for one in PASSES:
        if one.name not in names and (reason := one.needed(facts)):
            raise RecipeError(f"accelerate: found {quoted(asked)}, but {reason}. Leave {one.name} on.")
        why = "switched off" if one.name not in names else one.fits(facts)
        note = why or ""
        if why is None:
            network, note = one.apply(network, facts)
        decisions.append(Decision(one.name, why is None, note))
    return network, tuple(decisions)


def is_applied(decisions: Sequence[Decision], name: str) -> bool:
    """Whether a network has a pass.

    >>> is_applied([Decision("kernels", True), Decision("fused_adam", False, "switched off")], "fused_adam")
    False
    """
    return any(decision.name == name and decision.is_applied for decision in decisions)


def summary(decisions: Sequence[Decision]) -> str:
    """The decisions in one line.

    >>> summary([Decision("kernels", True), Decision("first_token", False, "switched off")])
    'kernels; not first_token: switched off'
    """
    used = [one.name + (f" ({one.note})" if one.note else "") for one in decisions if one.is_applied]
    reasons: dict[str, list[str]] = {}
    for one in decisions:
        if not one.is_applied:
            reasons.setdefault(one.note, []).append(one.name)
    return "; ".join([", ".join(used) or "none", *(f"not {', '.join(n)}: {why}" for why, n in reasons.items())])


SWITCHES = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


def parsed(asked: Any) -> bool | str:
    """What `accelerate` may be in Python, YAML and a shell, in one form.

    Args:
        asked: True, False, or names, in a list or with commas: those to use, or each with `-` those to leave out.

    Raises:
        ValueError: An unknown name, or names of both kinds.

    >>> parsed("off"), parsed(["kernels", "fused_adam"]), parsed(" -kernels ")
    (False, 'kernels,fused_adam', '-kernels')
    """
    if isinstance(asked, list | tuple):
        if not all(isinstance(name, str) for name in asked):
            raise ValueError("expected names of passes in the list")
        asked = ",".join(asked) if asked else False
    if isinstance(asked, bool):
        return asked
    if not isinstance(asked, str):
        raise ValueError("expected true, false or names of passes")
    if asked.strip().lower() in SWITCHES:
        return SWITCHES[asked.strip().lower()]
    names = [name.strip() for name in asked.split(",")]
    known = [one.name for one in PASSES]
    for name in names:
        if name.removeprefix("-") not in known:
            raise ValueError(
                f"no pass is called {quoted(name.removeprefix('-'))}.{did_you_mean(name.removeprefix('-'), known)} "
                f"Expected true, false, or some of: {', '.join(known)}, each with - before it to leave it out"
            )
    if len({name.startswith("-") for name in names}) > 1:
        raise ValueError("expected either names to use or, each with - before it, names to leave out; found both")
    return ",".join(dict.fromkeys(names))


def names_of(asked: bool | str) -> set[str]:
    """The names of the passes that a value of `accelerate` asks for.

    >>> sorted(names_of("-kernels,-first_token"))
    ['fused_adam', 'sparse_embeddings']
    """
    known = {one.name for one in PASSES}
    if isinstance(asked, bool):
        return known if asked else set()
    names = {name.removeprefix("-") for name in asked.split(",")}
    return known - names if asked.startswith("-") else names


def _fits_first_token(facts: Facts) -> str | None:
    from kft.accelerate import first_token

    return first_token.unfit(facts.network, facts.model)


def _first_token(network: keras.Model, facts: Facts) -> tuple[keras.Model, str]:
    from kft.accelerate import first_token

    return first_token.apply(network, facts.model), ""


def _fits_sparse_embeddings(facts: Facts) -> str | None:
    if not facts.is_training:
        return "for training"
    if facts.is_collated_anew:
        return "the tokens of a row are others in each epoch"
    if not facts.tables:
        return "no embedding of tokens trains that is read by token alone"
    if facts.token_ids is None:
        return "the features have numbers that are not in the vocabulary"
    from kft.accelerate.sparse_embeddings import WORTHWHILE

    share = len(facts.token_ids) / facts.model.backbone.vocabulary_size
    return f"{share:.0%} of the vocabulary is in train, more than {WORTHWHILE:.0%}" if share > WORTHWHILE else None


def _sparse_embeddings(network: keras.Model, facts: Facts) -> tuple[keras.Model, str]:
    from kft.accelerate import sparse_embeddings

    assert facts.token_ids is not None, "the pass fits"
    return sparse_embeddings.SparseEmbeddings(network, facts.tables, facts.token_ids), ""


def _fits_kernels(facts: Facts) -> str | None:
    if facts.backend != "tensorflow" or facts.platform != "cpu":
        return "for TensorFlow on CPUs"
    if not facts.is_training:
        return "for training"
    from kft.accelerate import kernels

    given, _ = kernels.kernels_for(facts.network)
    return None if given else "no layer of the kinds that it knows"


def _kernels(network: keras.Model, facts: Facts) -> tuple[keras.Model, str]:
    from kft.accelerate import kernels

    left = Counter(type(layer).__name__ for layer in kernels.use(network))
    return network, f"not of {', '.join(f'{count} {name}' for name, count in left.items())}" if left else ""


def _fits_fused_adam(facts: Facts) -> str | None:
    if facts.backend != "tensorflow":
        return "for TensorFlow"
    return None if facts.is_training else "for training"


def _needed_fused_adam(facts: Facts) -> str | None:
    is_shared = facts.backend == "tensorflow" and facts.is_training and facts.num_devices > 1
    return "Keras's update of weights that several devices share is not that of one device" if is_shared else None


def _fused_adam(network: keras.Model, facts: Facts) -> tuple[keras.Model, str]:
    return network, ""  # the optimizer is told by the decision


PASSES = (
    # It takes the layers as KerasHub has them, so it comes before they get kernels.
    Pass(
        "first_token",
        "Computes the last layer of an encoder for the first token alone where a classifier reads no other.",
        _fits_first_token,
        _first_token,
    ),
    # Its network has variables of its own, which the optimizer has to see.
    Pass(
        "sparse_embeddings",
        "Trains only the rows of the embedding tables whose tokens are in the training data.",
        _fits_sparse_embeddings,
        _sparse_embeddings,
    ),
    Pass(
        "kernels",
        "Gives layers operations that make fewer passes over memory, and the layers of an encoder one graph.",
        _fits_kernels,
        _kernels,
    ),
    Pass(
        "fused_adam",
        "Updates each variable by one operation of TensorFlow's.",
        _fits_fused_adam,
        _fused_adam,
        _needed_fused_adam,
    ),
)
