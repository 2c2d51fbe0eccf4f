"""`align check --all` refuses what `align train` refuses before its first step, in the same words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from mistakes import ANSWERED, ASKED, STORIES, Told, assert_nothing_was_begun, dump, pairs
from tiny_models import config_of

from align.cli.main import main
from align.data import prepare
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer

Make = Callable[[], object]
FRESH = ("model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k")
ONLINE = (
    "method.name=rloo", "rollout.max_completion_length=4", "rollout.num_generations=2", "reward.functions=[own:plain]",
)  # fmt: skip
HINTED = (*ONLINE, "method.name=scaf_grpo", "rollout.num_generations=4")
OWN = """
from dataclasses import dataclass

from align.batches import Pairs, Sequences
from align.methods.base import Loss, OfflineMethod


@dataclass(frozen=True, kw_only=True)
class Own(OfflineMethod[Pairs[Sequences]]):
    name = "own"
    paper = "none"

    def loss(self, batch):
        return Loss(gap=batch.rejected.logps.sum(-1) - batch.chosen.logps.sum(-1))


class Reads:
    inputs = ["words.txt"]

    def __call__(self, prompts, completions, **columns):
        return [0.0] * len(completions)


def plain(prompts, completions, **columns):
    return [0.0] * len(completions)


def answered(prompts, completions, completion_ids, answer):
    return [0.0] * len(completions)
"""


def rows(*made: Any) -> Make:
    return lambda: dump("rows.jsonl", *made)


def template(text: str, *made: Any) -> Make:
    def make() -> None:
        dump("rows.jsonl", *made)
        Path("t.jinja").write_text(text)

    return make


def model(name: str, **config: Any) -> Make:
    """The shipped model in a folder of this name, with another config."""

    def make() -> None:
        shutil.copytree(STORIES, name)
        path = Path(name, "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))

    return make


def swapped() -> None:
    """A model whose tokenizer has two words in each other's places."""
    model("swapped")()
    tokenizer = json.loads(Path("swapped/tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    one, other = list(words)[300:302]
    words[one], words[other] = words[other], words[one]
    Path("swapped/tokenizer.json").write_text(json.dumps(tokenizer))


def more_words() -> None:
    """A tokenizer with a token more than the shipped model has."""
    load_tokenizer(ModelSection(model_name_or_path="asset:stories260k", add_tokens=["<a>"])).save_pretrained("more")


def saved() -> None:
    datasets.Dataset.from_list([*pairs(4), pairs(1)[0] | {"rejected": pairs(1)[0]["chosen"]}]).save_to_disk("saved")


def prompts(**columns: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} and two?", **columns} for i in range(4)]


def held_out() -> None:
    dump("rows.jsonl", *prompts(answer="four"))
    datasets.Dataset.from_list(prompts()).save_to_disk("held")


TALK = {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{**ANSWERED, "content": "Good day. "}]}
SPOKEN = [ASKED, ANSWERED, ASKED, ANSWERED]
TRIMMED = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
COUNTING = "{% for m in messages %}{{ m.role }} of {{ messages | length }}: {{ m.content }}\n{% endfor %}"
JINJA = "data.chat_template=t.jinja"

REFUSED: dict[str, tuple[Make | None, tuple[str, ...], str]] = {
    "overlong rows": (
        rows(*pairs(6), *pairs(2, prompt="word " * 100)), (), "data.max_length: 2 of 8 rows (25%) do not fit into 64",
    ),
    "answers that are the same tokens": (
        template(TRIMMED, *[TALK] * 3), (JINJA,), "`chosen` and `rejected` are the same tokens of the chat template",
    ),
    "a template that fails": (
        template("{{ raise_exception('no system') }}", TALK), (JINJA,), "no system",
    ),
    "a template that rewrites": (
        template(COUNTING, {"messages": SPOKEN}), (JINJA, "method.name=sft"), "rewrites earlier turns when later ones",
    ),
    "a saved folder": (saved, ("data.train=saved",), "saved: row 5: `chosen` equals `rejected`"),
    "a share without a row": (
        None, ("data.validation=1e-6", "training.eval_steps=1"), "data.validation: no row is held out by 1e-06",
    ),
    "labels that are alike": (
        rows(*[{"prompt": f"{i}?", "completion": "Two.", "label": True} for i in range(6)]), ("method.name=kto",),
        "data.train: all 6 rows have the label true",
    ),
    "a metric of a method from outside": (
        None, ("method.name=own:Own", "training.metric_for_best_model=gip"),
        "no such metric: gip; own:Own reports loss, gap. Did you mean gap?",
    ),
    "a cache of what none can hold": (
        rows(*[{"prompt": f"{i}?", "completion": "Two.", "label": i % 2 > 0} for i in range(6)]),
        ("method.name=kto", "model.reference=cached"), "model.reference: cached, but kto scores answers to other rows'",
    ),
    "prompts without room": (
        None, (*ONLINE, "rollout.max_completion_length=500"), "are more than the model's context of 512",
    ),
    "columns of a later split": (
        held_out, (*ONLINE, "reward.functions=[own:answered]", "data.validation=held"),
        "reward answered: its argument answer is no column",
    ),
    "hints that do not fit": (
        rows(*prompts(hints=["Think. " * 100])), (*HINTED, "rollout.max_completion_length=400"),
        "with hint 1 the prompt has",
    ),
    "hints that are none": (
        rows(*prompts(hints=["Think."]), *prompts(hints=5)), HINTED, "row 5: hints is 5; expected a list of texts",
    ),
    "files that a reward reads": (
        rows(*prompts()), (*ONLINE, "reward.functions=[own:Reads]"), "reward own:Reads: reads words.txt, as its",
    ),
    "a server that cannot be started": (
        rows(*prompts()), (*ONLINE, "rollout.engine=vllm", "rollout.vllm_command=no-such-vllm serve"),
        "rollout.vllm_command: no-such-vllm: no such program",
    ),
    "an architecture that is none": (
        None, (*FRESH, "model.config={model_type: lama}"), "model.config.model_type: transformers knows no lama. Did",
    ),
    "a config that makes no model": (
        None, (*FRESH, "model.config={model_type: llama, hidden_size: 9, num_attention_heads: 2}"), "model.config: ",
    ),
    "an architecture without a classifier": (
        None, (*FRESH, f"model.config={json.dumps(config_of('cohere'))}", "method.name=reward_model"),
        "transformers has no one-label sequence classifier for cohere",
    ),
    "weights of another shape": (
        model("other", num_hidden_layers=7), ("model.model_name_or_path=other",), "other: lacks weights of a Llama",
    ),
    "tokens beyond the embeddings": (
        more_words, ("model.tokenizer_name_or_path=more",), "has 512 embeddings, but 1 tokens of the tokenizer more",
    ),
    "a reference with other tokens": (
        swapped, ("model.ref_model_name_or_path=swapped",), "model.ref_model_name_or_path: swapped: its vocabulary is",
    ),
    "a critic with other tokens": (
        swapped, (*ONLINE, "method.name=ppo", "model.critic={model_name_or_path: swapped}"),
        "model.critic.model_name_or_path: swapped: its vocabulary is not",
    ),
    "an adapter on nothing": (None, ("model.lora={target_modules: [q_prj]}",), "target_modules: q_prj matches nothing"),
    "an optimiser of matrices": (None, ("optim.optim=Muon",), "optim.optim_args: Muon does not take these"),
    "a router loss without experts": (
        None, ("model.router_aux_loss_coef=0.1",), "LlamaForCausalLM has no router loss of its own",
    ),
    "gradients without checkpoints": (
        None,
        (*FRESH, "training.gradient_checkpointing=true", "model.config={model_type: ctrl, n_embd: 8, n_layer: 1, "
         "n_head: 2, dff: 8, n_positions: 64}"), "training.gradient_checkpointing: transformers has none for CTRL",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(own_module: Callable[[str, str], None]) -> None:
    own_module("own", OWN)


@pytest.mark.parametrize("case", REFUSED)
def test_what_train_refuses_check_refuses_in_the_same_words(
    case: str, told: Told, capsys: pytest.CaptureFixture[str]
):
    make, words, finding = REFUSED[case]
    if make:
        make()
    refused = told(*words)
    assert finding in refused
    assert_nothing_was_begun()
    assert main(["check", "mine.yaml", *words, "--all"]) == 2
    said = capsys.readouterr().err
    assert refused.removeprefix("align:").strip() in said
    assert "Traceback" not in said


def test_what_is_wrong_in_several_places_is_told_together(capsys: pytest.CaptureFixture[str]):
    Path("run").write_text("no folder")
    dump("rows.jsonl", *pairs(6), *pairs(2, prompt="word " * 100))
    swapped()
    words = ("model.lora={target_modules: [q_prj]}", "model.ref_model_name_or_path=swapped")
    assert main(["check", "mine.yaml", *words, "--all"]) == 2
    said = capsys.readouterr().err
    for finding in ("output_dir: run: cannot be written", "do not fit into 64", "q_prj matches", "swapped: its"):
        assert finding in said


def test_notes_are_told_and_a_run_finds_the_data_prepared(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    dump("rows.jsonl", *pairs(12), *pairs(1, prompt="word " * 100))
    assert main(["check", "mine.yaml", "data.test=0.3", "--all"]) == 0
    out = capsys.readouterr().out
    assert "data: test: all " in out
    assert "note: train: 1 rows dropped with more than 64 tokens" in out
    assert "not looked at: what takes weights" in out
    Path("run").mkdir()
    Path("run/report.html").symlink_to("elsewhere.html")
    assert main(["check", "mine.yaml", "data.test=0.3", "--all"]) == 0
    assert "note: training.output_dir: run: report.html: a link or a pipe" in capsys.readouterr().out
    shutil.rmtree("run")
    monkeypatch.setattr(prepare, "_build", None)
    told("data.test=0.3", "training.max_steps=1", code=0)


def test_check_says_what_it_has_not_looked_at(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "mine.yaml"]) == 0
    *_, last, end = capsys.readouterr().out.splitlines()
    assert last.startswith("not looked at: rows beyond those above, lengths in tokens, the chat template")
    assert end == "mine: no mistakes found"
