"""The script that Slurm is given, and what is said of options that it could not have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from align.cli.main import main
from align.cluster import local
from align.cluster.script import sharding
from align.cluster.settings import seconds_of

DPO = ("launch", "slurm", "dpo", "training.output_dir=runs/one")


def script(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*DPO, "--dry-run", *words]) == 0
    text = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)  # it is a script
    return text


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_is_asked_for_stands_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    text = script(
        capsys, "--nodes", "4", "--gpus-per-node=8", "--sharding", "zero3", "--time", "2-00", "--partition", "gpu",
        "--after", "77", "--sbatch", "account=physics", "--sbatch", "qos=long", "--prelude", "module load cuda/12.8",
        "--container", "apptainer exec --nv image.sif", "--offload", "param",
    )  # fmt: skip
    options = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        "job-name=dpo", "nodes=4", "ntasks-per-node=8", f"output={tmp_path}/runs/one/launch/slurm-%j.log",
        "open-mode=append", "gpus-per-node=8", "time=2-00", "partition=gpu", "dependency=afterok:77",
        "signal=B:USR2@120", "account=physics", "qos=long", "requeue",
    ]  # fmt: skip
    assert "export WORLD_SIZE=32 LOCAL_WORLD_SIZE=8\n" in text
    assert "ACCELERATE_DEEPSPEED_ZERO_STAGE=3 ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE=cpu " in text
    assert "\nmodule load cuda/12.8\n" in text
    assert "exec apptainer exec --nv image.sif /" in text
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_what_is_quoted_stays_whole(capsys: pytest.CaptureFixture[str]):
    """The ranks' command stands in quotes itself."""
    words = ("--container", "echo 'two  words'", "--sbatch", "exclusive=", "name=first try")
    text = script(capsys, *words, "--time", "3")
    assert "#SBATCH --exclusive\n" in text
    assert "#SBATCH --job-name=first-try\n" in text
    begins, ends = text.index("bash -c '"), text.index("' 2> >(tee")
    command = text[begins:ends].replace("$SLURM_PROCID", "0") + "'"
    said = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=True).stdout
    assert said.startswith("two  words /")
    assert said.endswith("recipe.yaml --resume\n")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("30", 1800), ("1:30", 90), ("2:00:05", 7205), ("2-00", 172800), ("1-2:30", 95400), ("1-0:0:7", 86407)],
)
def test_times_of_sbatch(time: str, seconds: int):
    assert seconds_of(time) == seconds


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("zero2", "optimizer"), {"OPTIMIZER": "cpu", "PARAM": None}),
        (("zero3", "param"), {"OPTIMIZER": "cpu", "PARAM": "cpu"}),
        (("zero3", ""), {"OPTIMIZER": None, "PARAM": None}),
    ],
)
def test_what_goes_into_the_main_memory_is_told_to_every_rank(words: tuple[str, str], told: dict[str, str | None]):
    """In a job and on this machine alike, as a launch file would say it (tests/distributed has runs of these)."""
    kind, offload = words
    rank = local.environment(0, 2, 20000, local.LocalRun(processes=2, sharding=kind, offload=offload))  # type: ignore[arg-type]
    assert {part: rank.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE") for part in told} == told
    assert sharding(kind, offload).items() <= rank.items()
    assert sharding("fsdp2", "param")["FSDP_OFFLOAD_PARAMS"] == "true"
    assert sharding("fsdp2")["FSDP_OFFLOAD_PARAMS"] == "false"


def test_an_array_is_a_run_for_each_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    text = script(capsys, "--array", "0-4")
    assert f"RUN={tmp_path}/runs/one/seed-$SLURM_ARRAY_TASK_ID\nexport RUN\n" in text
    assert 'training.seed=$SLURM_ARRAY_TASK_ID "training.output_dir=$RUN" --resume\'' in text
    assert "slurm-%A_%a.log" in text


def test_a_launcher_is_started_once_on_each_node_and_guarded(capsys: pytest.CaptureFixture[str]):
    words = ("--nodes", "2", "--gpus-per-node", "8", "--launcher")
    for launcher, started in (
        ("torchrun", "-m torch.distributed.run --nnodes 2 --nproc-per-node 8 --node-rank $SLURM_NODEID "),
        ("accelerate", "launch --multi_gpu --num_machines 2 --num_processes 16 --machine_rank $SLURM_NODEID "),
    ):
        text = script(capsys, *words, launcher)
        assert "srun --ntasks=2 --ntasks-per-node=1 --cpu-bind=none " in text
        assert started in text
        assert text.index('trap "" USR1 USR2') < text.index(started)
    assert "srun --ntasks=16 --ntasks-per-node=8 " in script(capsys, *words, "srun")


def test_what_ranks_wait_for_is_the_jobs_to_say(capsys: pytest.CaptureFixture[str]):
    text = script(capsys, "--nodes", "2", "--preflight", "45", "--patience", "600", "--grace", "30")
    assert "export ALIGN_PREFLIGHT=45 ALIGN_PATIENCE=600\n" in text
    assert "--wait=30 " in text
    assert "for 90 seconds" in text  # no heartbeat of anybody
    assert "for 20 seconds" in script(capsys, "--patience", "20")


ONLINE = ("launch", "slurm", "rloo", "training.output_dir=runs/one", "rollout.engine=vllm", "--dry-run")


def test_servers_have_nodes_of_their_own_or_the_last_gpus_of_the_ranks(capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    words = ("--nodes", "4", "--gpus-per-node", "8", "--vllm-servers-per-node", "2")
    assert main([*ONLINE, *words, "--vllm-nodes", "2", "--container", "apptainer exec image.sif"]) == 0
    text = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "#SBATCH --nodes=6\n" in text
    assert '"$SLURM_NTASKS" != 48 ]' in text
    assert "srun --overlap --nodes=2 --relative=4 --ntasks=2 --ntasks-per-node=1 " in text
    assert "exec apptainer exec image.sif /" in text.partition("KEEPERS=$!")[0]
    assert "ALIGN_NUM_SERVERS=4 ALIGN_SERVERS_OF_NODE=2 ALIGN_SERVER_GPUS=4\n" in text
    assert "srun --nodes=4 --relative=0 --ntasks=32 --ntasks-per-node=8 " in text
    assert "export WORLD_SIZE=32 LOCAL_WORLD_SIZE=8\n" in text
    assert main([*ONLINE, *words, "--vllm-gpus-per-node", "2"]) == 0
    text = capsys.readouterr().out
    assert "#SBATCH --nodes=4\n#SBATCH --ntasks-per-node=6\n" in text
    assert "srun --overlap --nodes=4 --ntasks=4 --ntasks-per-node=1 " in text
    assert "ALIGN_NUM_SERVERS=8 ALIGN_SERVERS_OF_NODE=2 ALIGN_SERVER_GPUS=1\n" in text
    assert "srun --ntasks=24 --ntasks-per-node=6 " in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--nodes", "2"), "rollout.engine: vllm: ranks on several nodes need a server that all reach"),
        (("--vllm-nodes=1", "rollout.vllm_server_base_url=http://a:1"), "vllm_server_base_url: names servers that run"),
        (("--vllm-nodes=1", "rollout.vllm_command=[vllm serve, vllm serve]"), "rollout.vllm_command: has 2 commands"),
    ],
)
def test_what_recipe_and_places_say_of_servers_must_agree(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    assert main([*ONLINE, *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--nods", "2"), "--nods: no such option; there are --nodes, "),
        (("--nodes", "two"), "--nodes: Input should be a valid integer"),
        (("--nodes", "0"), "--nodes: 0 must be at least 1"),
        (("--nodes",), "--nodes: needs a value"),
        (("--time", "soon"), "--time: soon is no time of sbatch"),
        (("--sharding", "zero4"), "--sharding: zero4 is none of ddp, zero1"),
        (("--offload", "nvme", "--sharding", "zero3"), "--offload: what lies on NVMe would be in no checkpoint"),
        (("--offload", "gradients", "--sharding", "zero3"), "--offload: gradients is none of optimizer, param"),
        (("--offload", "param", "--sharding", "zero2"), "--offload: param needs divided weights, and zero2 keeps them"),
        (("--offload", "optimizer", "--sharding", "fsdp2"), "with fsdp2 take --offload param"),
        (("--offload", "optimizer"), "with ddp take --sharding zero2"),
        (("--sharding", "fsdp2", "optim.optim=Adafactor"), "optim.optim: Adafactor keeps numbers for rows and columns"),
        (("--vllm-nodes", "1"), "--vllm-nodes, --vllm-gpus-per-node: are places for vLLM servers, and the recipe does"),
        (("--vllm-nodes", "1", "--vllm-gpus-per-node", "1", "--gpus-per-node", "4"), "have nodes of their own; choose"),
        (("--vllm-gpus-per-node", "4", "--gpus-per-node", "4"), "leaves no GPU for ranks"),
        (
            ("--vllm-gpus-per-node", "1", "--gpus-per-node", "4", "--ranks-per-node", "4"),
            "--ranks-per-node: 4 ranks need a GPU each, and 3 are left beside the servers'",
        ),
        (("--vllm-servers-per-node", "2"), "--vllm-servers-per-node: has no effect without --vllm-nodes"),
        (("--vllm-nodes=1", "--vllm-servers-per-node=3", "--gpus-per-node=8"), "3 do not share 8 GPUs evenly"),
        (("--launcher", "mpirun"), "--launcher: mpirun is none of srun, torchrun, accelerate"),
        (("--patience", "0"), "--patience: 0 must be at least 1"),
        (("--array", "a-b"), "--array: a-b is no list of seeds"),
        (("--array", "0-2,5-1"), "--array: 0-2,5-1 is no list of seeds"),
        (("--array", "0-2", "training.seed=7"), "training.seed: is another one for each run of --array"),
        (("--time", "2"), "--warning: 120 seconds before the end leave nothing of --time 2; lower it"),
        (("--time", "0:90", "--warning", "90"), "leave nothing of --time 0:90"),
        (("--gpus-per-node", "4", "--ranks-per-node", "8"), "8 ranks need a GPU each, and there are 4"),
        (("--sbatch", "gpus-per-node=8"), "--sbatch gpus-per-node: has an option of its own"),
        (("--sbatch", "qos=a", "--sbatch", "qos=b"), "--sbatch qos: stands twice; keep one of them"),
        (("--sbatch", "nodes=3"), "--sbatch nodes: has an option of its own"),
        (("--sbatch", "account"), "--sbatch account: expected KEY=VALUE"),
        (("--after", "x; rm"), "--after: x; rm is no number of a job"),
        (("method.bta=1",), "method.bta: no such key"),
        (("training.output_dir=runs/two words",), "two words/launch/job.sh: has characters that a shell takes for its"),
    ],
)
def test_wrong_options_are_told(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main([*DPO, "--dry-run", *words]) == 2
    assert told in capsys.readouterr().err


def test_without_slurm_it_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([*DPO, "training.max_steps=2"]) == 2
    assert "sbatch: no such command here; submit from a login node" in capsys.readouterr().err
    assert Path("runs/one/launch/job.sh").exists()
    assert main(["launch", "status", "runs/one"]) == 2
    assert "runs/one/launch/jobs.jsonl: is not there" in capsys.readouterr().err
