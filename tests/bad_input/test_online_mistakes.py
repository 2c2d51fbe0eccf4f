"""Mistakes in recipes of methods whose policy writes: found before training, told with the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main

SMALL = ("data.num_rows=20", "training.num_train_epochs=null", "training.max_steps=1", "training.batch_size=2")
IN_ROUNDS = ("training.num_train_epochs=null", "training.max_steps=48")
WIN_RATE = "{name: win_rate, settings: {scores: length, settings: {target: 3}}}"
VLLM = ("rloo", "rollout.engine=vllm")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rloo", "rollout.num_generations=1"), "rloo compares the completions of a prompt and needs 2 or more"),
        (("rebel", "rollout.num_generations=1"), "rebel compares the completions of a prompt and needs 2 or more"),
        (("rebel", "rollout.correction=truncate"), "rollout.correction: found truncate; rebel is not linear in its"),
        (("rloo", "optim.learning_rate_of_round=[1e-3]"), "optim.learning_rate_of_round: rloo has no rounds; remove"),
        (("sppo", "optim.learning_rate_of_round=[1e-3]"), "has 1 numbers, one for each round; say how many there are"),
        (("sppo", *IN_ROUNDS, "method.beta=[0.1, 0.2]"), "method.beta: has 2 numbers, and there are 3 rounds"),
        (("sppo", *IN_ROUNDS, "optim.learning_rate_of_round=[1, 0, 1]"), "learning_rate_of_round.1: found 0.0; expe"),
        (("sppo", *IN_ROUNDS, "optim.learning_rate_of_round=[1, 1, 1]"), "optim.learning_rate: found 0.0002 beside"),
        (("sppo", *IN_ROUNDS, "training.max_steps=40"), "a round is 16 steps (rollout.num_iterations x num_prompts"),
        (("sppo", "rollout.mask_truncated=true"), "rollout.mask_truncated: sppo pairs the best and the"),
        (("sppo", "rollout.environment=align.lab.calculator:reply"), "rollout.environment: the pairs of a round"),
        (("sppo", "method.reward_is=win_rate"), "reward: sppo takes it for the win rates of one function"),
        (("sppo", f"reward.functions=[{WIN_RATE}]"), "reward.functions.0: compares a prompt's completions, and"),
        (("accelerated_po", "method.extrapolation_alpha=1.0"), "extrapolation_alpha is 1.0; it must be 0 or more"),
        (("accelerated_po", "model.lora={r: 2, use_dora: true}"), "a jump of what DoRA scales"),
        (("accelerated_po", "method=apo"), "method: apo: APO is the acronym of three methods"),
        (("accelerated_po", "method.name=apo_zero"), "method.name: apo_zero: APO is the acronym of three methods"),
        (("rloo", "rollout.correction=truncate"), "found token; rloo has one ratio for a completion"),
        (("gspo", "rollout.correction=mask"), "expected sequence or geometric"),
        (("p3o", "rollout.staleness=1"), "weights on them would not correct its gradient; set it to 0"),
        (("spo", "rollout.staleness=1"), "set rollout.correction: truncate"),
        (("grpo", "rollout.top_p=0.9"), "rollout.top_p: found 0.9: tokens would be drawn from another distribution"),
        (("grpo", "rollout.top_k=5"), "consent with rollout.biased_sampling: true"),
        (("grpo", "rollout.temperature=0.0"), "rollout.temperature: found 0.0; expected more than 0"),
        (("grpo", "rollout.top_k=-1", "rollout.biased_sampling=true"), "rollout.top_k: found -1; expected 0 or more"),
        (("grpo", "rollout.min_p=1.5", "rollout.biased_sampling=true"), "rollout.min_p: found 1.5; expected 0 to 1"),
        (("grpo", "rollout.stop_strings=['.', '']"), "rollout.stop_strings: has an empty text"),
        *(
            (
                ("grpo", f"rollout.correction_{word}"),
                f"rollout.correction_{word.partition('=')[0]}: has no effect without",
            )
            for word in ("level=sequence", "high=3.0", "low=0.5")
        ),
        (
            ("grpo", "rollout.correction=truncate", "rollout.correction_low=0.5"),
            "rollout.correction_low: has no effect: rollout.correction: truncate only cuts large weights; set mask",
        ),
        (("ppo", "rollout.num_prompts=30"), "set it to 16 or 32, or batch_size to one of 1, 2, 3, 5, 6, 10, 15, 30"),
        (("ppo", "reward.functions=[]"), "reward.functions: missing; name what completions earn by"),
        (("ppo", "reward.functions=[lenth]"), "Did you mean length?"),
        (("ppo", "reward.functions=[nowhere:f]"), "No module named 'nowhere'"),
        (("ppo", "reward.shape=[{clip: {low: 2, high: 1}}]"), "reward.shape.0: clip: low 2.0 is not below high 1.0"),
        (("ppo", "reward.timeout=.inf"), "reward.timeout: found inf; expected a finite number"),
        (("ppo", "reward.shape=[{scale: {by: .nan}}]"), "reward.shape.0.scale.by: found NaN; expected a number"),
        (("ppo", "training.metric_for_best_model=rewads"), "no such metric: rewads; where the policy writes there are"),
        (("ppo", "model.reference=cached"), "cached is for rows that are there before training"),
        (("ppo", "rollout.max_completion_length=0"), "expected 1 or more"),
        (("rloo", "model.critic={warmup_steps: 2}"), "model.critic: rloo has no critic; remove the section"),
        (("dpo", "model.critic={}"), "model.critic: dpo has no critic; remove the section"),
        (
            ("ppo", "model.critic={warmup_flat: 0.1}"),
            "warmup_flat: ends the warm-up, and warmup_steps is 0",
        ),
        (("ppo", "model.critic={warmup_steps: 9, warmup_flat: 1.5}"), "found 1.5; expected 0 or more and less than 1"),
        (("ppo", "model.critic={learning_rat: 1}"), "model.critic.learning_rat: no such key"),
        (("ppo", "rollout.epsilon=0.1"), "no such key"),
        (("rloo", "rollout.vllm_retries=5"), "rollout.vllm_retries: has no effect without rollout.engine: vllm"),
        (("rloo", "rollout.engine=vlm"), "expected one of local, vllm. Did you mean vllm?"),
        ((*VLLM, "rollout.vllm_server_base_url=localhost:8000"), "expected a URL such as http://127.0.0.1:8000"),
        ((*VLLM, "rollout.vllm_server_base_url=[http://a:1, b:2]"), "found b:2; expected a URL such as"),
        ((*VLLM, "rollout.vllm_server_base_url=[http://a:1, http://a:1]"), "found http://a:1 more than once"),
        ((*VLLM, "rollout.vllm_command=[]"), "rollout.vllm_command: found nothing; expected what starts a server"),
        (
            (*VLLM, "rollout.vllm_server_timeout=0"),
            "rollout.vllm_server_timeout: found 0.0; expected more than 0",
        ),
        ((*VLLM, "rollout.vllm_arguments=[--host, 0.0.0.0]"), "rollout.vllm_arguments: found --host; the run chooses"),
        ((*VLLM, "rollout.vllm_arguments=[--ho=0.0.0.0]"), "rollout.vllm_arguments: found --ho=0.0.0.0; the run"),
        ((*VLLM, "rollout.vllm_retries=-1"), "rollout.vllm_retries: found -1; expected 0 or more"),
        (
            (*VLLM, "rollout.vllm_server_base_url=http://127.0.0.1:8000", "rollout.vllm_arguments=[--enforce-eager]"),
            "rollout.vllm_arguments: are for a server that the run starts",
        ),
        (
            (*VLLM, "rollout.temperature=0.7", "rollout.top_k=5", "rollout.biased_sampling=true"),
            "rollout.temperature: found 0.7 beside top_k, top_p or min_p; vLLM gives log-probabilities",
        ),
        (("rloo", "rollout.use_vllm=true"), "here `rollout.engine`"),
        (("dpo", "rollout.num_generations=4"), "rollout: dpo learns from rows that are there before"),
    ],
)
def test_a_mistake_is_told_by_check(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


@pytest.mark.parametrize("word", ["top_p=0.9", "min_p=1.0"])
def test_consent_is_heard(word: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "grpo", f"rollout.{word}", "rollout.biased_sampling=true"]) == 0


def test_keys_that_have_no_effect_may_stand_at_their_defaults(capsys: pytest.CaptureFixture[str]):
    """As in the recipe.yaml of a run folder, which names every key."""
    idle = ("correction_high=2.0", "correction_low=0.0", "correction_level=token", "steps=newline", "max_turns=8")
    assert main(["check", "grpo", *(f"rollout.{word}" for word in idle)]) == 0


def test_a_correction_hears_its_own_keys(capsys: pytest.CaptureFixture[str]):
    words = ("correction=mask", "correction_low=0.5", "correction_high=3.0", "correction_level=sequence")
    assert main(["check", "grpo", *(f"rollout.{word}" for word in words)]) == 0


def test_a_server_is_not_needed_to_check_its_recipe(capsys: pytest.CaptureFixture[str]):
    assert main(["check", *VLLM]) == 0
    assert "note: rollout.engine: vllm: a run that is resumed loses and repeats no prompt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("rollout.vllm_command=no-such-vllm serve", "rollout.vllm_command: no-such-vllm: no such program"),
        (
            "rollout.vllm_server_base_url=http://127.0.0.1:9",
            "rollout.vllm_server_base_url: vLLM at http://127.0.0.1:9:",
        ),
    ],
)
def test_a_server_that_is_not_there_is_told_before_training(
    word: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = (*SMALL, word, "rollout.vllm_retries=0", f"training.output_dir={tmp_path / 'run'}")
    assert main(["train", *VLLM, *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_a_prompt_without_room_for_its_completion_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (*SMALL, "rollout.max_completion_length=500", f"training.output_dir={tmp_path / 'run'}")
    assert main(["train", "rloo", *words]) == 2
    error = capsys.readouterr().err
    assert "are more than the model's context of 512" in error
    assert "set data.max_length=12 or less" in error


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return [1.0]", "reward mine: returned 1 values for"),
        ("return ['a'] * len(completions)", "reward mine: returned 'a' for the completion"),
        ("return [float('nan')] * len(completions)", "reward mine: returned nan for the completion"),
        ("raise KeyError('colour')", "reward mine: KeyError: 'colour'"),
        ("return [None] * len(completions)", "could be judged (all None)"),
    ],
)
def test_a_reward_that_misbehaves_stops_the_run(
    body: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    name = f"rewards_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(f"def mine(prompts, completions, **columns):\n    {body}\n")
    words = (*SMALL, "rollout.max_completion_length=4", "data.test=0.0", "data.validation=0.0", "training.eval_steps=0")
    more = (f"reward.functions=[{name}:mine]", "logging.num_completions=0", f"training.output_dir={tmp_path / 'run'}")
    assert main(["train", "rloo", *words, *more]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
