"""What no single key can know: combinations without meaning."""

from __future__ import annotations

from typing import Any

import torch

from align.data.settings import DataSection
from align.errors import UserError, did_you_mean
from align.methods.base import Method
from align.models.settings import ModelSection
from align.needs import Needs, knobs_of_rounds
from align.recipe.look_at_models import adapted
from align.recipe.text import Written
from align.rollout.settings import RolloutSection
from align.system.extras import has_bitsandbytes
from align.training.optim import EIGHT_BIT, check_arguments
from align.training.settings import LoggingSection, OptimSection, TrainingSection

SCHEDULES: dict[str, tuple[str, ...]] = {  # with their further arguments
    "linear": (), "cosine": ("num_cycles",), "cosine_with_restarts": ("num_cycles",),
    "cosine_with_min_lr": ("min_lr", "min_lr_rate", "num_cycles"), "polynomial": ("lr_end", "power"),
    "constant": (), "constant_with_warmup": (), "inverse_sqrt": ("timescale",),
    "warmup_stable_decay": (
        "num_decay_steps", "num_stable_steps", "decay_type", "warmup_type", "min_lr_ratio", "num_cycles",
    ),
}  # fmt: skip
NEEDED = {"cosine_with_min_lr": ("min_lr_rate", "min_lr"), "warmup_stable_decay": ("num_decay_steps",)}  # one of them
OPTIMISERS_OF_TRANSFORMERS = ("Adafactor",)
# one wants a closure, one sparse gradients, and Rprop whole batches: it knows neither a schedule nor a weight decay
NOT_FOR_TRAINING = ("LBFGS", "SparseAdam", "Rprop")
RATES = "optim.learning_rate_of_round"
TRACKERS = ("tensorboard", "wandb", "trackio")
KEEP_ONE = "keep one of them (key=null on the command line takes a recipe's own away)"


def check_combinations(written: Written, cls: type[Method[Any]] | None, sections: dict[str, Any]) -> None:
    needs = cls.needs() if cls else None
    if (training := sections["training"]) is not None:
        _training(written, training, cls)
        if sections["data"] is not None:
            _evaluation(written, training, sections["data"])
    if sections["optim"] is not None:
        _optim(written, sections["optim"])
    if sections["model"] is not None:
        _model(written, sections["model"])
        valued = needs is None or any("values" in needs.live(m) for m in needs.members)
        if cls is not None and sections["model"].critic and not valued:
            written.wrong("model.critic", f"{cls.name} has no critic; remove the section")
    if sections["data"] is not None and not sections["data"].train:
        written.wrong("data.train", "missing; name a file of rows, a hub data set, asset:NAME, or a list of sources")
    reward = sections.get("reward")
    if reward is not None and not reward.timeout and reward.num_workers != type(reward)().num_workers:
        written.wrong("reward.num_workers", "has no effect without reward.timeout; set it, or remove the key")
    if sections["logging"] is not None:
        _logging(written, cls, sections["logging"], sections["data"])


def check_averages(written: Written, method: Method[Any] | None, sections: dict[str, Any]) -> None:
    """Where a copy follows the policy by shares that its own precision rounds away: it would stand still."""
    model, moves = sections["model"], method.moves() if method is not None else ()
    if model is None or model.dtype in ("auto", "float32") or not any(move.how == "average" for move in moves):
        return
    if adapted(model):
        return  # adapters are float32
    written.wrong(
        "model.dtype", f"found {model.dtype}, which rounds away what a moving average adds to its copy in a step, and "
        "this method has one; set auto, with training.mixed_precision: bf16 to compute as fast"
    )  # fmt: skip


def check_masters(written: Written, method: Method[Any] | None, sections: dict[str, Any]) -> None:
    """Where a recipe asks for float32 masters that it has already, or whose weights are written by others, too."""
    model, optim = sections["model"], sections["optim"]
    if model is None or optim is None or not optim.masters:
        return
    if model.lora is not None:
        written.wrong("optim.masters", "has no effect: an adapter is float32, and its own master; remove the key")
    elif model.dtype in ("auto", "float32"):
        written.wrong("optim.masters", "has no effect: the weights are float32, and their own masters; remove the key")
    if method is not None and any(move.how == "extrapolate" for move in method.moves()):
        written.wrong(
            "optim.masters", f"{method.name} writes the policy's weights between steps, which masters would undo; "
            "set model.dtype to float32, and training.mixed_precision to bf16"
        )  # fmt: skip


def _logging(
    written: Written, cls: type[Method[Any]] | None, logging: LoggingSection, data: DataSection | None
) -> None:
    if cls and logging.baselines and cls.needs().batch.kind != "pairs":
        kind = cls.needs().batch.kind
        written.wrong("logging.baselines", f"bag_of_words ranks pairs; {cls.name} learns from {kind}: remove the key")
    elif logging.baselines and data is not None and not data.test:
        written.wrong("logging.baselines", "needs data.test, whose pairs are ranked: a source, or a share such as 0.1")
    if cls and writes_nothing(cls.needs()) and written.has("logging.num_completions") and logging.num_completions:
        written.wrong("logging.num_completions", f"{cls.name} trains a scalar head, which writes nothing; set it to 0")
    for tracker in logging.report_to:
        if tracker not in TRACKERS:
            hint = did_you_mean(tracker, TRACKERS)
            written.wrong("logging.report_to", f"no such tracker: {tracker}; there are {', '.join(TRACKERS)}.{hint}")


def writes_nothing(needs: Needs) -> bool:
    """A scalar head is trained in the place of the language-model head."""
    return any("scores" in needs.live(m) for m in needs.members)


def _training(written: Written, t: TrainingSection, cls: type[Method[Any]] | None) -> None:
    if t.per_device_train_batch_size and written.has("training.batch_size"):
        written.wrong(
            "training.per_device_train_batch_size",
            f"conflicts with batch_size: {t.batch_size}; batch_size is per_device_train_batch_size x "
            "gradient_accumulation_steps x world size already, so keep one of them",
        )
    if t.gradient_accumulation_steps and not t.per_device_train_batch_size:
        written.wrong(
            "training.gradient_accumulation_steps",
            "stands alone; batch_size counts a whole optimiser step, and max_tokens divides it into micro-batches",
        )
    if cls and not t.per_device_train_batch_size and t.batch_size < cls.smallest_batch:
        written.wrong(
            "training.batch_size",
            f"found {t.batch_size}; {cls.name} compares rows of a step and needs {cls.smallest_batch} or more",
        )
    for key in ("eval_steps", "save_steps"):
        if (value := getattr(t, key)) > 1 and value != int(value):
            written.wrong(f"training.{key}", f"found {value}; expected whole steps, or a share of all of them below 1")
    if t.max_steps and written.has("training.num_train_epochs"):
        written.wrong("training.max_steps", f"conflicts with num_train_epochs: {t.num_train_epochs}; {KEEP_ONE}")
    if not t.max_steps and t.num_train_epochs == 0:
        written.wrong("training.num_train_epochs", "found 0 with max_steps 0: nothing would be trained")


def _evaluation(written: Written, t: TrainingSection, data: DataSection) -> None:
    held_out = bool(data.validation)
    if t.eval_steps and not held_out:
        written.wrong("training.eval_steps", "needs data.validation: a source, or a share of the prompts such as 0.1")
    for key in ("load_best_model_at_end", "early_stopping_patience"):
        if not getattr(t, key):
            continue
        if not held_out:
            written.wrong(
                f"training.{key}", "needs data.validation to compare evaluations on; test is never used for it"
            )
        if not t.eval_steps:
            written.wrong(
                f"training.{key}", "needs training.eval_steps above 0: one evaluation at the end leaves no choice"
            )
    shares = sum(s for s in (data.validation, data.test) if not isinstance(s, str) and s < 1)
    if shares >= 1:
        written.wrong("data.test", f"validation {data.validation} and test {data.test} leave no row to train on")


def _optim(written: Written, o: OptimSection) -> None:
    if o.warmup_ratio and o.warmup_steps:
        written.wrong("optim.warmup_steps", f"conflicts with warmup_ratio: {o.warmup_ratio}; {KEEP_ONE}")
    if o.lr_scheduler_type not in SCHEDULES:
        hint = did_you_mean(o.lr_scheduler_type, SCHEDULES)
        written.wrong(
            "optim.lr_scheduler_type",
            f"no such schedule: {o.lr_scheduler_type}; there are {', '.join(SCHEDULES)}.{hint}",
        )
    if o.lr_scheduler_type == "constant" and (o.warmup_ratio or o.warmup_steps):
        written.wrong(
            "optim.lr_scheduler_type", "constant has no warm-up; say constant_with_warmup, or drop the warm-up"
        )
    _schedule(written, o)
    known = [
        n
        for n in dir(torch.optim)
        if isinstance(c := getattr(torch.optim, n), type) and issubclass(c, torch.optim.Optimizer)
    ]
    known = sorted({*known, *OPTIMISERS_OF_TRANSFORMERS, *EIGHT_BIT} - {"Optimizer", *NOT_FOR_TRAINING})
    if o.optim not in known:
        plain = o.optim.removesuffix("_torch").removesuffix("_fused").removesuffix("_torch").lower()
        near = next((f" Did you mean {n}?" for n in known if n.lower() == plain), did_you_mean(o.optim, known))
        written.wrong("optim.optim", f"no such optimiser: {o.optim}; there are {', '.join(known)}.{near}")
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if "Adam" not in o.optim and getattr(o, name) != getattr(OptimSection(), name):
            written.wrong(f"optim.{name}", f"has no effect on {o.optim}; remove the key, or use optim.optim_args")
    for name in ("lr", "betas", "eps", "weight_decay"):
        if name in o.optim_args:
            ours = {"lr": "learning_rate", "betas": "adam_beta1 and adam_beta2", "eps": "adam_epsilon"}.get(name, name)
            written.wrong(f"optim.optim_args.{name}", f"has a key of its own: optim.{ours}")
            written.broken.add("optim.optim_args")
    here = o.optim not in EIGHT_BIT or has_bitsandbytes()
    if o.optim in known and here and o.optim not in OPTIMISERS_OF_TRANSFORMERS:  # those take seconds to import
        try:
            check_arguments(torch.nn.Linear(1, 1, bias=False), o)
        except UserError as error:
            written.wrong("optim.optim_args", str(error).removeprefix("optim.optim_args: "))


def _schedule(written: Written, o: OptimSection) -> None:
    """What a schedule is given beside the rate and its warm-up."""
    key, name = "optim.lr_scheduler_kwargs", o.lr_scheduler_type
    allowed = SCHEDULES.get(name, ())
    for word in o.lr_scheduler_kwargs if name in SCHEDULES else ():
        if word not in allowed:
            there = f"{name} has {', '.join(allowed) or 'none'}"
            written.wrong(f"{key}.{word}", f"no such argument; {there}.{did_you_mean(word, allowed)}")
    if name in NEEDED and not any(word in o.lr_scheduler_kwargs for word in NEEDED[name]):
        example = "min_lr_rate: 0.1" if name == "cosine_with_min_lr" else "num_decay_steps: 0.2 (a share of all steps)"
        written.wrong(key, f"{name} needs {' or '.join(NEEDED[name])}, such as {example}")


def _model(written: Written, m: ModelSection) -> None:
    if m.config and m.model_name_or_path:
        written.wrong(
            "model.config", "conflicts with model_name_or_path: fresh weights of a config, or pretrained ones; keep one"
        )
    if not m.config and not m.model_name_or_path:
        written.wrong("model.model_name_or_path", "missing; name a folder, a hub model or asset:NAME, or give a config")
    if m.dtype == "float16" and m.lora is None:
        written.wrong(
            "model.dtype",
            "found float16, in which small gradients and Adam's epsilon are 0, and no loss scaler is here: training "
            "would diverge; set auto (float32 weights, with training.mixed_precision: bf16 to compute faster)",
        )
    if m.config and "model_type" not in m.config:
        written.wrong("model.config.model_type", "missing; the transformers name of the architecture, such as llama")
    if m.config and not m.tokenizer_name_or_path:
        written.wrong("model.tokenizer_name_or_path", "missing; a model made from a config brings no tokenizer")


# ---- rounds ----------------------------------------------------------------------------------------------------------


def check_rounds(
    written: Written, cls: type[Method[Any]], method: Method[Any] | None, sections: dict[str, Any]
) -> None:
    """`method` is None where its knobs are wrong."""
    optim: OptimSection | None = sections["optim"]
    rates = optim.learning_rate_of_round if optim is not None else []
    if not cls.rounds:
        if rates:
            written.wrong(RATES, f"{cls.name} has no rounds; remove the key")
        return
    if optim is not None and rates and written.has("optim.learning_rate") and optim.learning_rate != rates[0]:
        finding = f"found {optim.learning_rate:g} beside {RATES}, whose first is {rates[0]:g}"
        written.wrong("optim.learning_rate", f"{finding}; keep one of them (key=null takes a recipe's own away)")
    if sections["model"] is not None and sections["model"].critic:
        finding = f"{cls.name} begins again in each round, and a critic would not"
        written.wrong("model.critic", f"{finding}; remove the section")
    rollout: RolloutSection | None = sections.get("rollout")
    if rollout is not None:
        _rollout(written, cls, rollout)
    if rollout is not None and sections["training"] is not None:
        lists = {RATES: len(rates)} if rates else {}
        lists |= {f"method.{name}": len(of) for name, of in (knobs_of_rounds(method) if method else {}).items()}
        _number(written, sections["training"], rollout, lists)


def _rollout(written: Written, cls: type[Method[Any]], rollout: RolloutSection) -> None:
    if rollout.mask_truncated:
        finding = f"{cls.name} pairs the best and the worst completion of a prompt, and would be left with one of them"
        written.wrong("rollout.mask_truncated", f"{finding}; charge for what is cut by reward.shape, missing_eos")
    if rollout.environment:
        finding = f"the pairs of a round are kept as prompts with two answers, and {cls.name} has none of several turns"
        written.wrong("rollout.environment", f"{finding}; remove the key")


def _number(
    written: Written, training: TrainingSection, rollout: RolloutSection, lists: dict[str, int]
) -> None:
    """Rounds are whole, and each list has a number for each of them."""
    lasting = rollout.lasting(training.batch_size)
    if lasting < 1:
        return  # said elsewhere
    num_rounds, rest = divmod(training.max_steps, lasting)
    if rest:
        near = sorted({n for n in (num_rounds * lasting, (num_rounds + 1) * lasting) if n})
        written.wrong(
            "training.max_steps",
            f"found {training.max_steps}, and a round is {lasting} steps (rollout.num_iterations x num_prompts / "
            f"batch_size): the last one would not be ended; set it to {' or '.join(map(str, near))}",
        )
    for key, count in lists.items():
        if not training.max_steps:
            cure = f"say how many there are by training.max_steps, {lasting} for each"
            written.wrong(key, f"has {count} numbers, one for each round; {cure}")
        elif not rest and count != num_rounds:
            steps = f"training.max_steps {training.max_steps}, {lasting} steps each"
            written.wrong(key, f"has {count} numbers, and there are {num_rounds} rounds ({steps}); one for each")
