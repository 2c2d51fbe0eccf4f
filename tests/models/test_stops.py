"""Where completions end: at the template's end of turn, too, whatever the folder's generation config lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench_of_steps import alone
from small_runs import write_rows

from align.recipe.load import load_recipe
from align.run.assemble import assemble
from align.runfolder.folder import RunFolder
from align.sources.online import Online

TOKENIZER = Path(__file__).parents[1] / "data" / "tokenizer-minimind6400"
END_OF_TEXT, END_OF_TURN = 0, 2


def test_the_policy_stops_at_the_end_of_its_turn(tmp_path: Path):
    """Base models often have another end-of-sequence token than the one their template closes a turn with."""
    folder = shutil.copytree(TOKENIZER, tmp_path / "tokenizer", copy_function=shutil.copyfile)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["eos_token"] = "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rows = [{"prompt": [{"role": "user", "content": f"Count to {n}."}]} for n in range(20)]
    recipe = load_recipe(
        "grpo",
        [
            "model.model_name_or_path=null", f"model.tokenizer_name_or_path={folder}",
            "model.config={model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
            "num_attention_heads: 2, max_position_embeddings: 128}",
            f"data.train={write_rows(tmp_path / 'rows.jsonl', rows)}", "data.test=0.0", "data.validation=0.0",
            "data.max_length=64", "rollout.max_completion_length=4", "training.eval_steps=0",
        ],
    )  # fmt: skip
    source = assemble(recipe, alone(), RunFolder(tmp_path / "run"), print).source
    assert isinstance(source, Online)
    assert set(source.writer.sampling.stop_token_ids) == {END_OF_TEXT, END_OF_TURN}
