"""What is asked of a launcher is honoured or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from align.errors import UserError
from align.world.distributed import join
from align.world.launcher import ALWAYS, OF_DEEPSPEED, OF_FSDP, refuse_ignored

ZERO, FSDP = {"ACCELERATE_USE_DEEPSPEED": "true"}, {"ACCELERATE_USE_FSDP": "true"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch):
    for name in os.environ:
        if name.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision bf16 .here it is no: training.mixed_precision"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision fp16"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "mixed_precision fp8"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "dynamo_backend INDUCTOR .models are not compiled"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "gradient_accumulation_steps 4 .training.batch_size"),
        ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, "gradient_clipping 0.5 .clipping is optim.max_grad_norm"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "use_megatron_lm"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "use_parallelism_config"),
        (ZERO | {"ACCELERATE_CONFIG_DS_FIELDS": "zero_stage,gradient_clipping"}, "gradient_clipping"),
        (ZERO | {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "nvme"}, "offload_optimizer_device nvme .take cpu"),
        (ZERO | {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "offload_param_device cpu .*zero_stage 3"),
        (ZERO | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "a.json"}, "deepspeed_config_file a.json"),
        (FSDP | {"FSDP_VERSION": "1"}, "fsdp_version 1 .set it to 2"),
        (FSDP, "fsdp_version .set it to 2"),  # accelerate's own default is 1
        (FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "training.gradient_checkpointing"),
        (FSDP | {"FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "fsdp_auto_wrap_policy SIZE_BASED"),
    ],
)
def test_what_would_be_ignored_is_refused_with_what_decides(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told):
        refuse_ignored("no")
    with pytest.raises(UserError, match=told):
        join(1.0)


def test_everything_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    for one in (*ALWAYS, *OF_DEEPSPEED, *OF_FSDP):
        monkeypatch.setenv(one.name, "17")
    for name, value in (ZERO | FSDP).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        refuse_ignored("no")
    assert [one.flag for one in (*ALWAYS, *OF_DEEPSPEED, *OF_FSDP) if f"{one.flag} 17" not in str(caught.value)] == []


@pytest.mark.parametrize("asked", ["no", "bf16"])
def test_the_precision_that_comes_true_may_be_asked_for(asked: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    join(1.0, asked)  # type: ignore[arg-type]


def test_the_defaults_of_accelerate_launch_say_nothing(tmp_path: Path):
    """The variables as the launcher itself sets them, without a flag and with one."""
    script = tmp_path / "script.py"
    script.write_text("from align.world.launcher import refuse_ignored\nrefuse_ignored('no')\n")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HOME": str(tmp_path)}  # and no file of the user's
    plain, asked = (
        subprocess.run([*launch, *flags, str(script)], env=environment, capture_output=True, text=True, check=False)
        for flags in (["--mixed_precision", "no"], ["--mixed_precision", "bf16"])
    )
    assert plain.returncode == 0, plain.stderr
    assert "mixed_precision bf16" in asked.stderr
