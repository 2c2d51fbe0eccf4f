"""The pages of methods: what stands in `pages/methods/NAME.md` is its formula, the rest is read off its file.

A method's docstring has a form that tests hold (CONTRIBUTING.md): the first line says what it is; then authors, paper,
the equation in plain text; `Metrics:`; `Departures:`.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any, get_type_hints

from align.cli.entries import entry, metrics_beside
from align.cli.entries import page as page_of
from align.cli.methods import Entry
from align.methods.base import Method, find_method, method_names
from align.methods.metrics import TABLE
from align.recipe.text import shipped
from align.recipe.types import describe
from align.system.ranges import ranges_of
from docs.generate.comments import meanings
from docs.generate.studies import results_of
from docs.generate.symbols import legend
from docs.generate.tables import cell, default_of, of_rows

ROWS = {"demonstrations": "demonstrations", "pairs": "pairs", "unpaired": "answers, each with a verdict",
        "prompts": "prompts; the policy writes the rest"}  # fmt: skip
FAMILIES = {
    "From demonstrations": lambda e: e.rows == "demonstrations",
    "From pairs and verdicts": lambda e: e.rows in ("pairs", "unpaired"),
    "From rewards, with a critic": lambda e: e.rows == "prompts" and "critic" in e.models,
    "From rewards, without a critic": lambda e: True,
}
BESIDE = {"scalar head": "a scalar head on its trunk", "critic": "a [critic](../settings.md#modelcritic)"}
COMMENT = re.compile(r"^  (\w+): [^#]*# (.*)$")
MORE = re.compile(r"^ {3,}# (.*)$")


def families() -> dict[str, list[Entry]]:
    """All methods, each in the first family that has it."""
    found: dict[str, list[Entry]] = {name: [] for name in FAMILIES}
    for name in method_names():
        e = entry(find_method(name))
        found[next(family for family, holds in FAMILIES.items() if holds(e))].append(e)
    return found


def index() -> str:
    """Tables of all methods by family."""
    parts: list[str] = []
    for family, entries in families().items():
        rows = "".join(
            f"| [`{e.name}`]({e.name}.md) | {cell(e.title)} | {', '.join(e.models) or '-'} | {_paper(e)} |\n"
            for e in entries
        )
        parts.append(
            f"## {family}\n\n| method | what it is | beside the policy | paper |\n| --- | --- | --- | --- |\n{rows}"
        )
    return "\n\n".join(parts)


def page(name: str, formula: str) -> str:
    """The whole page of a method, around what was written by hand."""
    cls = find_method(name)
    e, text = entry(cls), page_of(cls)
    about, metrics, departures = _parts(text)
    parts = [
        f"# {name}\n\n{cell(e.title)}.\n{{ .lead }}",
        _facts(cls, e),
        f"## The loss\n\n{formula.strip()}",
        *([f"### Symbols\n\n{symbols}"] if (symbols := legend(formula)) else []),
        f"## In words\n\n{about}",
        f"### Departures from the paper\n\n{departures}",
        f"## Knobs\n\n{knobs(cls, e)}",
        f"## Metrics\n\n{metrics}\n\n{_shared(cls)}",
    ]
    if results := results_of(name):
        parts.append(f"## Results here\n\nFrom [the studies](../studies.md), which say how each was made.\n\n{results}")
    if e.recipe:
        recipe = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        parts.append(
            "## Recipe { data-search-exclude }\n\n"
            f"Complete, on models and data that come with the package. `align init {name} -o my.yaml` makes it a file "
            f"of yours, `align train {name}` runs it as it is.\n\n```yaml\n{recipe.strip()}\n```"
        )
    return "\n\n".join(parts)


def knobs(cls: type[Method[Any]], e: Entry) -> str:
    hints, ranges, told = get_type_hints(cls), ranges_of(cls), knob_meanings(cls)
    fields = cls.__dataclass_fields__
    rows = [
        f'| <a id="method.{k}"></a>`{k}` '
        f"| {cell(', '.join([describe(hints[k]), *([str(ranges[k])] if k in ranges else [])]))} "
        f"| {default_of(fields[k])} | {cell(told.get(k, ''))} |\n"
        for k in e.knobs
    ]
    rate = f"`optim.learning_rate` is {f'{cls.usual_rate:g}'.replace('e-0', 'e-')} where a recipe does not say."
    if cls.usual_minibatches > 1:
        rate += f" `training.num_minibatches` is {cls.usual_minibatches}."
    return (f"{of_rows(rows)}\n\n{rate}" if rows else f"It has no knobs of its own. {rate}") + (
        "\n\nAll other keys: [Settings](../settings.md)."
    )


def knob_meanings(cls: type[Method[Any]]) -> dict[str, str]:
    """Knob -> what it means, by the comment beside it, or by its recipe's."""
    recipe = shipped("recipes") / f"{cls.name}.yaml"
    found = _of_recipe(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
    return found | {k: text for k, text in meanings(cls).items() if text}


def _of_recipe(text: str) -> dict[str, str]:
    found, knob = dict[str, str](), ""
    for line in text.partition("method:\n")[2].splitlines():
        if line and not line[0].isspace():
            break
        if match := COMMENT.match(line):
            knob, found[match[1]] = match[1], match[2]
        elif knob and (more := MORE.match(line)):
            found[knob] += f" {more[1]}"
        else:
            knob = ""
    return found


def _parts(text: str) -> tuple[str, str, str]:
    """The prose and equations, what is said of metrics, and of departures; each as Markdown."""
    body = text.split("\n", 1)[1]
    about, _, rest = body.partition("\nMetrics:")
    metrics, _, departures = rest.partition("\nDepartures:")
    return tuple(_markdown(_begun(part)) for part in (about, metrics, departures))  # type: ignore[return-value]


def _begun(text: str) -> str:
    """With a capital, where it begins with a word."""
    text = text.strip("\n ")
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+(-[a-z]+)*\b(?!_)", text) else text


def _markdown(text: str) -> str:
    """Prose as it is meant, whatever signs are in it; what is indented stays an equation in plain text."""
    lines = [f"```text\n{textwrap.dedent(b)}\n```" if b.startswith("    ") else cell(b.strip()) for b in _blocks(text)]
    return "\n\n".join(_linked(line) for line in lines)


def _blocks(text: str) -> list[str]:
    """Paragraphs, and equations with the empty lines inside of them."""
    found: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        if found and found[-1].startswith("    ") and block.startswith("    "):
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return [b for b in found if b.strip()]


def _linked(text: str) -> str:
    """Methods that are named lead to their pages."""
    if text.startswith("```"):
        return text
    return re.sub(r"`(\w+)`", lambda m: f"[`{m[1]}`]({m[1]}.md)" if m[1] in method_names() else m[0], text)


def _facts(cls: type[Method[Any]], e: Entry) -> str:
    beside = ", ".join(BESIDE.get(m, f"a {m}" if m != "reference" else "the frozen reference") for m in e.models)
    facts = {
        "Learns from": f"[{ROWS[e.rows]}](../data.md#{e.rows})",
        "Beside the policy": beside or "nothing",
        "Paper": _paper(e),
        "The loss reads": ", ".join(f"`{c}`" for c in e.columns),
    }
    return "| | |\n| --- | --- |\n" + "".join(f"| **{k}** | {v} |\n" for k, v in facts.items())


def _paper(e: Entry) -> str:
    number = e.paper.removeprefix("arXiv:")
    return f"[{e.paper}](https://arxiv.org/abs/{number})" if number != e.paper else f"<{e.paper}>" if e.paper else "-"


def _shared(cls: type[Method[Any]]) -> str:
    rows = "".join(f"| `{n}` | {cell(m)} | {_better(n)} |\n" for n, m in metrics_beside(cls).items())
    head = "Of every such method:\n\n| metric | meaning | better |\n| --- | --- | --- |\n"
    return f"{head}{rows}" if rows else ""


def _better(name: str) -> str:
    return TABLE[name].better or "neither by itself" if name in TABLE else ""
