"""How long it lasts, when it is looked at, what is kept, and where all of it goes."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off

TRACKERS = ("tensorboard", "wandb", "trackio")


def course(draft: Draft) -> None:
    length(draft)
    _evaluations(draft)
    _checkpoints(draft)
    best(draft)
    told(draft)
    if directory := draft.get("output_dir"):
        draft.put("training.output_dir", str(directory), "output_dir")
    afterwards(draft)


def length(draft: Draft) -> None:
    steps = int(draft.get("max_steps") or -1)
    if steps > 0:
        draft.put("training.max_steps", steps, "max_steps")
        draft.no_meaning("num_train_epochs", "max_steps ends it")
    else:
        draft.put("training.num_train_epochs", float(draft.get("num_train_epochs")), "num_train_epochs")
        draft.already("max_steps", "epochs end it")


def evaluates(draft: Draft) -> bool:
    """Whether it is evaluated: while it trains, or at its end alone."""
    return strategy(draft) != "no" or bool(draft.get("do_eval"))


def strategy(draft: Draft) -> str:
    for word in ("eval_strategy", "evaluation_strategy"):
        if draft.says(word):
            value = draft.get(word)
            return "no" if is_off(value) else str(value)
    return "no" if is_off(draft.get("eval_strategy")) else str(draft.get("eval_strategy"))


def every(draft: Draft, how: str, steps: Any) -> tuple[float, str]:
    """Steps between two of them, or a share of all steps, and what is to be said; 0 is the end alone."""
    if how == "epoch":
        epochs = float(draft.get("num_train_epochs") or 1)
        if int(draft.get("max_steps") or -1) > 0 or epochs <= 1:
            return 0, "at the end"
        return round(1 / epochs, 6), "a share of all steps: once an epoch"
    value = float(steps or 0)
    return (value, "a share of all steps") if 0 < value < 1 else (int(value), "")


def _evaluations(draft: Draft) -> None:
    how, words = strategy(draft), ("eval_steps", "eval_strategy", "evaluation_strategy")
    if how == "no":
        draft.put("training.eval_steps", 0, "eval_strategy", "evaluation_strategy")
        draft.no_meaning("eval_steps", "eval_strategy is no")
        return
    steps = draft.get("eval_steps") or draft.get("logging_steps")
    value, note = every(draft, how, steps)
    draft.put("training.eval_steps", value, *words, note=note)


def _checkpoints(draft: Draft) -> None:
    how = draft.get("save_strategy")
    if is_off(how):
        draft.put("training.save_steps", 0, "save_strategy", note="at the end alone")
        draft.no_meaning("save_steps", "save_strategy is no")
    elif how == "best":
        draft.put("training.save_steps", 0, "save_strategy", note="the best is always kept")
    else:
        value, note = every(draft, str(how), draft.get("save_steps"))
        draft.put("training.save_steps", value, "save_steps", "save_strategy", note=note)
    if (limit := draft.get("save_total_limit")) is not None:
        draft.put("training.save_total_limit", max(1, int(limit)), "save_total_limit", note="beside the best")


def best(draft: Draft) -> None:
    metric = draft.get("metric_for_best_model")
    if metric is not None:
        name = str(metric).removeprefix("eval_").removeprefix("rewards/").replace("accuracies", "accuracy")
        draft.put("training.metric_for_best_model", name, "metric_for_best_model")
    for word in ("load_best_model_at_end", "greater_is_better"):
        if draft.says(word):
            draft.put(f"training.{word}", bool(draft.get(word)), word)


def told(draft: Draft) -> None:
    steps = float(draft.get("logging_steps") or 0)
    whole = max(1, int(steps))
    note = "" if steps >= 1 else "metrics.jsonl has every step"
    draft.put("logging.logging_steps", whole, "logging_steps", note=note)
    names = draft.get("report_to")
    names = [names] if isinstance(names, str) else list(names or [])
    names = [name for name in names if not is_off(name)]
    if odd := [name for name in names if name not in TRACKERS]:
        draft.refuse("report_to", f"{', '.join(odd)}: there are {', '.join(TRACKERS)}")
    draft.put("logging.report_to", [name for name in names if name in TRACKERS], "report_to")
    if name := draft.get("run_name"):
        draft.put("name", str(name), "run_name")


def afterwards(draft: Draft) -> None:
    """What is uploaded, a command of its own."""
    if is_off(draft.get("push_to_hub")):
        draft.already("push_to_hub", "nothing is uploaded")
        for word in ("hub_model_id", "hub_private_repo"):
            draft.no_meaning(word, "nothing is uploaded")
        return
    folder = str(draft.recipe.get("training.output_dir", "runs/NAME"))
    name = draft.get("hub_model_id", folder.split("/")[-1])
    private = " --private" if draft.get("hub_private_repo") else ""
    command = f"hf upload {name} {folder}/final{private}"
    draft.launch.after.append(command)
    for word in ("push_to_hub", "hub_model_id", "hub_private_repo"):
        draft.elsewhere(word, f"after training: {command}")
