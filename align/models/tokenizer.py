"""Tokenizers: where they come from, what stops a generation, which id may pad."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from align.errors import UserError
from align.models.settings import ModelSection
from align.models.sources import quiet, read_json, refusing, resolve

Head = Literal["lm", "scalar"]

PAD = "<|pad|>"  # added to a tokenizer that has no token to pad with, for scalar heads only
_PADS = ("<pad>", "[PAD]", PAD, "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>")  # in order of preference
_ANSWER = "qzx"  # what the assistant says when a template is looked at; no template contains it


def load_tokenizer(section: ModelSection, head: Head = "lm") -> PreTrainedTokenizerFast:
    """The tokenizer of `tokenizer_name_or_path`, or of the model folder, with `add_tokens` in it and a pad token.

    The pad token never masks anything (masks go by length); it is chosen only because transformers wants one. For a
    scalar head it must not be a token that ends a sequence, since transformers' classifiers score the last token that
    is not padding: where every candidate is one, `<|pad|>` is added. Raises UserError.
    """
    folder = source_of(section)
    tokenizer = read_tokenizer(folder, section.trust_remote_code)
    if section.add_tokens:
        tokenizer.add_tokens(list(section.add_tokens), special_tokens=True)
    stops = {*stop_ids(tokenizer, None), *_listed_stops(folder)}
    if tokenizer.pad_token_id is None or (head == "scalar" and tokenizer.pad_token_id in stops):
        free = [t for t in _free_pads(tokenizer) if tokenizer.convert_tokens_to_ids(t) not in stops]
        last_resort = PAD if head == "scalar" else str(tokenizer.eos_token)
        tokenizer.add_special_tokens({"pad_token": free[0] if free else last_resort})
    return tokenizer


def _listed_stops(folder: str) -> list[int]:
    """What the generation config beside a tokenizer names."""
    path = Path(folder, "generation_config.json")
    listed = read_json(path).get("eos_token_id") if path.exists() else None
    found = listed if isinstance(listed, list) else [] if listed is None else [listed]
    if not all(type(i) is int for i in found):
        raise UserError(f"{path}: eos_token_id: found {listed!r}; expected the id of a token, or a list of them")
    return found


def source_of(section: ModelSection) -> str:
    """The local folder that the recipe's tokenizer comes from."""
    name = section.tokenizer_name_or_path or section.model_name_or_path
    if not name:
        raise UserError("model.tokenizer_name_or_path: missing; name the folder of a tokenizer")
    return resolve(name, code=section.trust_remote_code)


def read_tokenizer(folder: str, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder as it stands; UserError where there is none, or none with an end-of-sequence token."""
    if not any(Path(folder).glob("tokenizer*")) and not any(Path(folder).glob("*.model")):
        raise UserError(
            f"{folder}: has no tokenizer (tokenizer.json, tokenizer_config.json); copy the model's own there, "
            "or name its folder in model.tokenizer_name_or_path"
        )
    finding = f"{folder}: its tokenizer cannot be loaded (transformers reads config.json for it, too)"
    with refusing(finding, "save it again"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{folder}: {type(tokenizer).__name__} has no tokenizer.json; convert it to a fast tokenizer")
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{folder}: the tokenizer has no end-of-sequence token; name one of its tokens as eos_token in "
            f"{Path(folder) / 'tokenizer_config.json'}"
        )
    return tokenizer


def _free_pads(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Special tokens that the vocabulary has and that can stand for padding, best first."""
    vocabulary = tokenizer.get_vocab()
    known = [t for t in (*_PADS, str(tokenizer.unk_token)) if t in vocabulary]
    return [t for t in dict.fromkeys(known) if t not in (tokenizer.eos_token, tokenizer.bos_token)]


def added_ids(section: ModelSection, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Ids that `load_tokenizer` added to the source's own tokens, in order."""
    if not section.add_tokens and tokenizer.pad_token != PAD:
        return ()
    before = read_tokenizer(source_of(section), section.trust_remote_code).get_vocab()
    return tuple(sorted(i for token, i in tokenizer.get_vocab().items() if token not in before))


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token that the chat template puts after an assistant's answer; None where there is none."""
    if not tokenizer.chat_template:
        return None
    text = _rendered(tokenizer)
    _, found, rest = text.rpartition(_ANSWER)
    if not found:
        raise UserError(f"{tokenizer.name_or_path}: its chat template leaves out the assistant; give another one")
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
    places = [(place, -len(text), i) for text, i in added.items() if (place := rest.find(text)) >= 0]
    return min(places)[2] if places else None


def _rendered(tokenizer: PreTrainedTokenizerFast) -> str:
    """A question and an answer under the chat template; some templates want the content as a list of parts."""
    for wrap in (str, lambda text: [{"type": "text", "text": text}]):
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": wrap("a")},
            {"role": "assistant", "content": wrap(_ANSWER)},
        ]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template is a program: it may raise anything
            reason = error
            continue
        if _ANSWER in str(text):
            return str(text)
        reason = ValueError("the answer does not appear")
    raise UserError(f"{tokenizer.name_or_path}: its chat template cannot render a question and an answer: {reason}")


def stop_ids(tokenizer: PreTrainedTokenizerFast, model_or_generation_config: Any) -> tuple[int, ...]:
    """Every id that ends a generation, sorted: the template's end of turn, the tokenizer's EOS, the config's list.

    The second argument is a model, a GenerationConfig, or None.
    """
    config = getattr(model_or_generation_config, "generation_config", model_or_generation_config)
    listed = getattr(config, "eos_token_id", None) if isinstance(config, GenerationConfig) else None
    ids: set[Any] = {cast(Any, tokenizer.eos_token_id), end_of_turn(tokenizer)}
    ids.update(listed if isinstance(listed, list) else [listed])
    return tuple(sorted(int(i) for i in ids if i is not None))
