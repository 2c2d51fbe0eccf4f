"""What a method reads, and what the recipe names for it: columns and their models, lessons and the trusted rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from align.batches import LIVE_COLUMNS
from align.data.settings import DataSection
from align.methods.base import Method, OnlineMethod
from align.models.settings import LoraSection, ModelSection, SoupSection
from align.needs import LEARNS, TRAIN, TRUSTED, TWIN, Needs, beside_jumps, copies_of, made_by
from align.recipe.text import Written
from align.scoring.role_table import ENGINE, MAKERS, POLICY, idle, maker, models_of, named_by

CURE = "remove model.lora"
METRICS = ("loss", "router_loss")  # told beside the losses of sources, by their names
TOLD = ("source_names", "source_weights")  # fields of a method over two levels, which the run fills


def moving(written: Written, method: Method[Any] | None) -> Method[Any] | None:
    """The method whose moves and pulls can be made; None of another, as of one whose knobs are wrong."""
    if method is not None:
        try:
            _ = method.moves(), method.pulls()
        except ValueError as error:
            written.wrong("method.name", f"{method.name}: {error}")
            return None
    return method


def check_roles(written: Written, cls: type[Method[Any]], method: Method[Any] | None, section: ModelSection) -> None:
    """`method` is None where its knobs are wrong."""
    needs = cls.needs()
    for finding in unmade(needs, online=issubclass(cls, OnlineMethod), cached=section.reference == "cached"):
        written.wrong("method.name", f"{cls.name} {finding}")
    _named(written, cls, method, section)
    if method is not None:
        for finding in misled(method, section.lora):
            written.wrong("method.name", f"{cls.name} {finding}")
    if "ref" in models_of(needs):
        _reference(written, section)
        return
    for key in ("reference", "ref_model_name_or_path"):
        cached = key == "reference" and section.reference == "cached" and models_of(needs)
        if written.has(f"model.{key}") and getattr(section, key) not in ("", "auto") and not cached:
            written.wrong(f"model.{key}", f"{cls.name} has no reference model; remove the key")


def unmade(needs: Needs, *, online: bool, cached: bool) -> Iterator[str]:
    """What is wrong with each column that nobody makes."""
    for column in needs.unknown():
        live = ", ".join(LIVE_COLUMNS)
        yield f"reads a column {column}, which nobody makes: there are {live}, and ROLE_ before one of them"
    makers = needs.of_completions()
    for name, (column, _) in needs.rows.items():
        if online and column not in makers:
            yield f"reads a number {name} of the data row; a completion has none but those that `of_completion` makes"
    valued = any("values" in needs.live(member) for member in needs.members)
    for member in needs.members:
        for column in needs.stored(member):
            role, live = made_by(column)
            able = maker(role).columns
            if role in models_of(needs) and cached:
                able = ("logps",)  # that is what is kept
            elif role == POLICY and not valued:
                able = tuple(c for c in able if c != "values")
            if role == ENGINE and not online:
                yield f"reads {column}, and no engine writes for a method whose rows are there before training"
            elif role and live not in able:
                yield f"reads {column}, which its {maker(role).words} does not make; it makes {', '.join(able)}"


def misled(method: Method[Any], lora: LoraSection | None) -> Iterator[str]:
    """What is wrong with moves that cannot be made, and with copies that are to write."""
    writers = tuple(method.writers()) if isinstance(method, OnlineMethod) else ()
    anchors = tuple(pull.towards for pull in method.pulls())
    moves, known = method.moves(), (*models_of(method.needs()), *writers, *anchors)
    for role in (role for role in writers if role not in copies_of(method)):
        yield f"asks {role} to write, and moves no copy of that name"
    for role in copies_of(method):
        if role in MAKERS or role not in known:
            can = ", ".join(r for r in known if r not in MAKERS) or "none"
            yield f"moves a copy {role}; the copies that it reads a column of are: {can}"
    hows = {move.how for move in moves}
    if "put back" in hows and "take" not in hows:
        yield f"has {LEARNS} put back, and nothing is ever taken"
    if lora is not None and anchors:
        yield f"pulls weights towards {anchors[0]}, and an adapter's are a product, whose slope is another; {CURE}"
    if lora is not None and (others := beside_jumps(method)):
        yield f"extrapolates an adapter and has other moves of it ({others}), which know nothing of the jump; {CURE}"
    if "extrapolate" in hows and lora is not None and lora.use_dora:
        yield f"extrapolates weights, and a jump of what DoRA scales (model.lora.use_dora) has no low rank; {CURE}"


def _named(written: Written, cls: type[Method[Any]], method: Method[Any] | None, section: ModelSection) -> None:
    """The models of `model.roles`."""
    moving = () if method is None else copies_of(method)
    unknown = method is None and cls.moves is not Method.moves  # which follow, its knobs say
    wanted = [role for role in named_by(cls.needs()) if role not in moving]
    for role in wanted:
        if role not in section.roles and not unknown and (method is None or not idle(method, role)):
            written.wrong(f"model.roles.{role}", f"missing; {cls.name} reads what this model says: name its folder")
    for role in section.roles:
        if role in wanted:
            continue
        said = f"{cls.name} reads no column of such a model" + (f"; it has {', '.join(wanted)}" if wanted else "")
        if role in moving:
            said = f"{role} is a copy of the policy, which {cls.name} moves"
        elif role in MAKERS:
            said = f"{role} is the {MAKERS[role].words}, which is not named here"
        written.wrong(f"model.roles.{role}", f"{said}; remove the key")


def _reference(written: Written, m: ModelSection) -> None:
    if isinstance(m.reference, SoupSection):
        _soup(written, m.reference, m.ref_model_name_or_path)
    if m.reference == "adapter_off" and m.lora is None:
        written.wrong(
            "model.reference", "adapter_off needs model.lora: without an adapter there is nothing to switch off"
        )
    if m.reference == "adapter_off" and m.ref_model_name_or_path:
        written.wrong(
            "model.ref_model_name_or_path",
            "conflicts with reference: adapter_off, which is the model without its adapter",
        )


def _soup(written: Written, soup: SoupSection, other: str) -> None:
    """An average of models' weights in the place of the reference."""
    if len(soup.soup) < 2:
        named = ", ".join(soup.soup) or "none"
        written.wrong(
            "model.reference.soup",
            f"names {named}; expected two or more, whose weights are averaged (ref_model_name_or_path names one)",
        )
    if soup.weights and len(soup.weights) != len(soup.soup):
        written.wrong("model.reference.weights", f"found {len(soup.weights)} for {len(soup.soup)} models; one for each")
    elif any(key.startswith("model.reference.weights.") for key in written.broken):
        return  # one of them is no number
    elif soup.weights and (min(soup.weights) < 0 or abs(sum(soup.weights) - 1) > 1e-6):
        found = f"found {soup.weights}, whose sum is {sum(soup.weights):g}"
        written.wrong("model.reference.weights", f"{found}; expected shares that are at least 0 and add up to 1")
    if other:
        written.wrong("model.ref_model_name_or_path", "conflicts with reference.soup, which names the models itself")


# ---- two levels -----------------------------------------------------------------------------------------------------

def check_levels(written: Written, cls: type[Method[Any]], method: Method[Any] | None, data: DataSection) -> None:
    """`method` is None where its knobs are wrong."""
    two = cls.levels is not Method.levels if method is None else method.levels() is not None
    if two and not data.trusted and "data.trusted" not in written.broken:
        wanted = "a small source of rows as all should be, none of which is in data.train"
        written.wrong("data.trusted", f"missing; {cls.name} learns what each source is worth by it: name {wanted}")
    if data.trusted and not two:
        written.wrong("data.trusted", f"{cls.name} learns from data.train alone; remove the key")
    _apart(written, data)
    for i, source in enumerate(data.train if isinstance(data.train, list) else []):
        if source.name in METRICS:
            written.wrong(f"data.train.{i}.name", f"{source.name} is the name of a metric; give it another one")
    if data.weights_from and two:
        written.wrong("data.weights_from", f"{cls.name} learns the weights itself; remove the key")
    if method is not None:
        for finding in astray(method):
            written.wrong("method.name", f"{cls.name} {finding}")


def astray(method: Method[Any]) -> list[str]:
    """What is wrong with lessons that a run cannot give."""
    two, found = method.levels() is not None, list[str]()
    if two and isinstance(method, OnlineMethod):
        found.append("learns on two levels, and only methods whose rows are there before training can")
    if two and (lacking := [n for n in TOLD if n not in {f.name for f in dataclasses.fields(method)}]):
        found.append(f"learns on two levels, and has no field {', '.join(lacking)} = remembered(())")
    if two and not hasattr(method, "source_slopes"):
        found.append("learns on two levels, and has no source_slopes(told): the gradient of the sources' logits")
    known = {"learner": (LEARNS, TWIN) if two else (LEARNS,), "stream": (TRAIN, TRUSTED) if two else (TRAIN,)}
    for lesson in method.lessons():
        for key, names in known.items():
            if (name := getattr(lesson, key)) not in names:
                found.append(f"has a lesson whose {key} is {name}; there {'is' if len(names) == 1 else 'are'} "
                             f"{', '.join(names)}")  # fmt: skip
    return found


def _apart(written: Written, data: DataSection) -> None:
    """The trusted set is none of the other sources."""
    listed = {} if isinstance(data.train, str) else {f"data.train.{i}": s.source for i, s in enumerate(data.train)}
    others = listed or {"data.train": data.train}
    others |= {f"data.{key}": v for key in ("validation", "test") if isinstance(v := getattr(data, key), str)}
    same = [key for key, source in others.items() if data.trusted and source == data.trusted]
    if same:
        written.wrong("data.trusted", f"{data.trusted} is {', '.join(same)}, too; a trusted row is in no other set")
