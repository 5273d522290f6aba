"""A reader who holds the paper finds each symbol: docstrings of the public API of the networks, losses and memories."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType

import reid.losses
import reid.models
from reid import prototypes

# Where the paper's equations are computed, and which the docstring must name.
EQUATIONS = {
    "reid.prototypes.PrototypeMemory.initialise": "section 3.2",
    "reid.prototypes.PrototypeMemory.update": "Eq. 1-2",
    "reid.losses.cpcl.cpcl": "Eq. 3-4",
    "reid.models.short_term.shift_channels": "Eq. 5",
    "reid.models.short_term.ShortTerm": "Eq. 6",
    "reid.models.short_term.ShortTerm.forward": "Eq. 5-6",
    "reid.models.attention.CrossAttentionBlock": "Eq. 6 and 7",
    "reid.models.long_term.frames_ahead": "Eq. 7",
    "reid.models.long_term.LongTerm": "Eq. 7",
    "reid.models.long_term.LongTerm.forward": "Eq. 7",
    "reid.models.fusion.fuse": "Eq. 8",
    "reid.models.cross_modality.CrossModality": "section 3.3",
    "reid.models.cross_modality.CrossModality.forward": "section 3.3",
    "reid.models.encoder.Encoder": "section 3.1",
    "reid.models.encoder.shift_packed": "Eq. 5",
    "reid.models.pooling.temporal_mean": "section 3.1",
    "reid.losses.cmcl.cmcl": "Eq. 9",
    "reid.losses.total.Objective": "Eq. 10",
    "reid.losses.total.Objective.forward": "Eq. 10",
    "reid.losses.triplet.batch_hard_triplet": "Eq. 10",
    "reid.losses.identity.IdentityLoss": "Eq. 10",
    "reid.models.xreid.XReID": "Eq. 5-8",
}


def modules() -> Iterator[ModuleType]:
    yield prototypes
    for package in (reid.models, reid.losses):
        for found in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{found.name}")


def public() -> dict[str, object]:
    """Functions, classes and methods that a module defines itself, by dotted name."""
    found: dict[str, object] = {}
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{module.__name__}.{name}"] = value
            if inspect.isclass(value):
                found |= {
                    f"{module.__name__}.{name}.{method}": each
                    for method, each in vars(value).items()
                    if isinstance(each, FunctionType)
                    and not method.startswith("_")
                    and each.__module__ == module.__name__
                }
    return found


PUBLIC = public()
HELPERS = {"of_batch", "remembered", "memory_labels"}  # of ``Objective``: no losses
TAKING_TENSORS = {
    name: value
    for name, value in PUBLIC.items()
    if isinstance(value, FunctionType) and "Tensor" in str(inspect.signature(value))
}


def test_the_walk_finds_the_public_api() -> None:
    assert len(PUBLIC) > 60
    assert EQUATIONS.keys() <= PUBLIC.keys()


def texts(*names: str) -> dict[str, str]:
    return {name: inspect.getdoc(PUBLIC[name]) or "" for name in names}


def test_everything_public_has_a_docstring_of_its_own() -> None:
    assert [name for name, value in PUBLIC.items() if not (value.__doc__ or "").strip()] == []


def test_what_computes_an_equation_names_it() -> None:
    assert [name for name, text in texts(*EQUATIONS).items() if EQUATIONS[name] not in text] == []


def test_what_takes_or_gives_tensors_says_their_shapes() -> None:
    shape = re.compile(r"\([^()]*,[^()]*\)|\(\.\.\.\)")
    assert [name for name, text in texts(*TAKING_TENSORS).items() if not shape.search(text)] == []


def test_labels_and_lengths_have_their_ranges() -> None:
    """A tensor of integers is documented with its dtype or its range."""
    said = re.compile(r"int64|bool|1 to T|0 to")
    names = {"lengths", "identities", "modalities", "cameras"}
    asked = [name for name, value in TAKING_TENSORS.items() if names & set(inspect.signature(value).parameters)]
    assert [name for name, text in texts(*asked).items() if not said.search(text)] == []


def test_every_loss_says_its_range_or_what_it_is_of_nothing() -> None:
    losses = [name for name in TAKING_TENSORS if ".losses." in name and TAKING_TENSORS[name].__name__ not in HELPERS]
    assert len(losses) == 9
    said = re.compile(r"at least 0|in \[0|0 is the loss|0 where")
    assert [name for name, text in texts(*losses).items() if not said.search(text)] == []
