"""Scripts for TPUs, SLURM and Kubernetes: what they would run, without a cluster."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kzoo.cli import train_command, tune_command
from kzoo.distribution.cluster import START_SECONDS, Cluster, find_cluster

SCRIPTS = Path(__file__).parents[1] / "scripts"
TPU = SCRIPTS / "tpu" / "tpu.sh"
SLURM = SCRIPTS / "slurm" / "train.sh"
KUBERNETES = SCRIPTS / "kubernetes" / "apply.sh"


def bash(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def dry_run(script: Path, *words: str, **environment: str) -> str:
    done = bash(script, "--dry-run", *words, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shellcheck_has_nothing_to_say() -> None:
    scripts = sorted(str(path) for path in SCRIPTS.rglob("*.sh"))
    assert str(TPU) in scripts
    program = Path(sys.executable).with_name("shellcheck")  # of the extra `test`
    done = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "script", [TPU, SLURM, KUBERNETES], ids=lambda s: s.parent.name
)
def test_script_is_valid_bash(script: Path) -> None:
    assert bash("-n", script).returncode == 0


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (TPU, ["creat"], "unknown verb 'creat'"),
        (TPU, ["train", "cnn"], "BUCKET is not set"),
        (SLURM, [], "name a model"),
        (SLURM, ["cnn"], "--out DIR is missing"),
        (KUBERNETES, ["trian"], "unknown job 'trian'"),
    ],
)
def test_mistakes_are_one_line(script: Path, words: list[str], message: str) -> None:
    done = bash(script, "--dry-run", *words, BUCKET="")
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def parsed_by(command: Any, words: list[str]) -> argparse.Namespace:
    """The arguments as kzoo's own command reads them."""
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return parser.parse_args(words)


def test_a_tpu_lives_and_dies() -> None:
    created = dry_run(TPU, "create", TPU_NAME="mine", TPU_TYPE="v5litepod-256")
    assert "tpu-vm create mine --accelerator-type v5litepod-256" in created
    assert "--spot" in created
    assert "--spot" not in dry_run(TPU, "create", TPU_SPOT="false")
    assert "gcsfuse --implicit-dirs shop" in dry_run(TPU, "install", BUCKET="shop")
    assert "tpu-vm delete kzoo --quiet" in dry_run(TPU, "delete")
    kept = dry_run(TPU, "keep", "cnn", BUCKET="shop")  # after a preemption
    verbs = [line.split()[4] for line in kept.splitlines()]
    assert verbs == ["delete", "create", "scp", "ssh", "ssh"]


@pytest.mark.parametrize(
    ("endpoints", "number", "expected"),
    [
        ("a:b:10.0.0.2", "0", None),  # one host needs no cluster
        (
            "a:b:10.0.0.2,c:d:10.0.0.3",
            "1",
            Cluster("KERAS_DISTRIBUTION_JOB_ADDRESSES", 1, 2, ("10.0.0.2:8482",)),
        ),
    ],
)
def test_the_hosts_of_a_tpu_find_one_another(
    endpoints: str, number: str, expected: Cluster | None, tmp_path: Path
) -> None:
    line = dry_run(TPU, "train", "cnn", "--set", "epochs=3", BUCKET="shop")
    remote = bash(
        "-c", f"printf %s {line.split('--command ')[1].split(' --zone')[0]}"
    ).stdout
    join, words = remote.split("kzoo-environment/bin/python -m kzoo train ")
    assert line.startswith("gcloud compute tpus tpu-vm ssh kzoo --worker all")
    parsed = parsed_by(train_command, shlex.split(words.replace("\\\n", " ")))
    assert (parsed.model, parsed.set) == ("cnn", ["epochs=3"])
    assert (parsed.backend, parsed.distribution) == ("jax", "data_parallel")

    # The metadata server is one that we make up.
    curl = tmp_path / "curl"
    curl.write_text(
        "#!/bin/sh\ncase $* in\n"
        f"*worker-network-endpoints) echo '{endpoints}';;\n"
        f"*agent-worker-number) echo {number};;\nesac\n"
    )
    curl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = bash("-c", f"{join}\nenv", PATH=path)
    assert told.returncode == 0, told.stderr
    lines = [each.split("=", 1) for each in told.stdout.splitlines() if "=" in each]
    found = {key: value for key, value in lines if key.startswith("KERAS_DISTRIB")}
    assert find_cluster(found) == expected


def test_slurm_runs_what_kzoo_reads() -> None:
    words = shlex.split(dry_run(SLURM, "cnn", "--out", "/runs/a b", BACKEND="jax"))
    assert words[2:6] == ["python", "-m", "kzoo", "train"]
    parsed = parsed_by(train_command, words[6:])
    assert (parsed.model, parsed.out, parsed.backend) == ("cnn", "/runs/a b", "jax")
    assert parsed.distribution == "data_parallel"
    on_tensorflow = dry_run(SLURM, "cnn", "--out=/r", BACKEND="tensorflow")
    assert "--distribution multi_worker" in on_tensorflow


def jobset(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(dry_run(KUBERNETES, name, IMAGE="registry/kzoo:7"))
    assert found["kind"] == "JobSet"
    assert found["apiVersion"].startswith("jobset.x-k8s.io/")
    return found


def pods(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Of a replicated job: its spec, its container, and the container's variables."""
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "registry/kzoo:7"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {v["name"] for v in spec["template"]["spec"]["volumes"]}
    env = {entry["name"]: entry.get("value", "from") for entry in container["env"]}
    return spec, container, env


def test_kubernetes_trains_what_kzoo_reads() -> None:
    found = jobset("train")
    (job,) = found["spec"]["replicatedJobs"]
    spec, container, env = pods(job)
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    first = f"{found['metadata']['name']}-{job['name']}-0-0"
    address = f"{first}.{found['spec']['network']['subdomain']}:8482"
    for rank in range(spec["completions"]):
        cluster = find_cluster({**env, "JOB_COMPLETION_INDEX": str(rank)})
        assert cluster == Cluster("Kubernetes", rank, spec["completions"], (address,))
    assert START_SECONDS in env
    command, *words = container["args"]
    parsed = parsed_by(train_command, words)
    assert (command, parsed.backend) == ("train", "jax")
    assert parsed.distribution == "data_parallel"


def test_kubernetes_sweeps_what_kzoo_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from kzoo.distribution.cluster import ORACLE_IP, ORACLE_PORT
    from kzoo.tuning.workers import role

    found = jobset("sweep")
    chief, workers = found["spec"]["replicatedJobs"]
    service = f"{found['metadata']['name']}-{chief['name']}-0-0"
    address = f"{service}.{found['spec']['network']['subdomain']}"
    for job, expected in ((chief, "chief"), (workers, "worker")):
        _, container, env = pods(job)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        assert role() == expected
        assert env[ORACLE_IP] == ("0.0.0.0" if expected == "chief" else address)
        assert env[ORACLE_PORT] == "8000"
        command, *words = container["args"]
        assert command == "tune"
        assert parsed_by(tune_command, words).trials == 64
