"""Which processes train together: what the environments tell, and the meeting."""

import json
import socket
import threading
import time

import pytest

from kzoo.distribution import cluster
from kzoo.distribution.cluster import Cluster, expand_hosts, find_cluster

WORKERS = ["10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.3:4000"]


def tf_config(jobs: dict[str, list[str]], kind: str, index: int) -> dict[str, str]:
    told = {"cluster": jobs, "task": {"type": kind, "index": index}}
    return {"TF_CONFIG": json.dumps(told)}


SLURM = {
    "SLURM_JOB_ID": "4100",
    "SLURM_STEP_NODELIST": "node[08-09],big1",
    "SLURM_NTASKS": "5",
    "SLURM_PROCID": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
}
TPU = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "t-0,t-1"}
KUBERNETES = {
    "KERAS_DISTRIBUTION_JOB_ADDRESSES": "train-0.kzoo:4000",
    "KERAS_DISTRIBUTION_NUM_PROCESSES": "8",
    "JOB_COMPLETION_INDEX": "7",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (tf_config({"worker": WORKERS[:1]}, "worker", 0), None),  # alone
        (
            tf_config({"worker": WORKERS}, "worker", 2),
            Cluster("TF_CONFIG", 2, 3, tuple(WORKERS)),
        ),
        (
            tf_config({"worker": WORKERS[1:], "chief": WORKERS[:1]}, "worker", 1),
            Cluster("TF_CONFIG", 2, 3, tuple(WORKERS)),
        ),
        (
            tf_config({"worker": WORKERS[1:], "chief": WORKERS[:1]}, "chief", 0),
            Cluster("TF_CONFIG", 0, 3, tuple(WORKERS)),
        ),
        (KUBERNETES, Cluster("Kubernetes", 7, 8, ("train-0.kzoo:4000",))),
        (
            {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(WORKERS),
                "KERAS_DISTRIBUTION_PROCESS_ID": "1",
            },
            Cluster("KERAS_DISTRIBUTION_JOB_ADDRESSES", 1, 3, tuple(WORKERS)),
        ),
        (
            SLURM,
            Cluster(
                "SLURM",
                3,
                5,
                (
                    "node08:61444",  # 4100 % 4096 + 61440
                    "node08:61443",
                    "node09:61444",
                    "node09:61443",
                    "big1:61444",
                ),
            ),
        ),
        (TPU, Cluster("the TPU's environment", 1, 2, ("t-0:8482", "t-1:8482"))),
        (
            TPU | {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2"},
            Cluster("the TPU's environment", 5, 6),
        ),
    ],
    ids=lambda value: value.source if isinstance(value, Cluster) else None,
)
def test_environments_are_recognised(
    environment: dict[str, str], expected: Cluster | None
) -> None:
    assert find_cluster(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG is not of the form"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG is not of the form"),
        (tf_config({"worker": WORKERS, "ps": ["a:1"]}, "worker", 0), "multi_worker"),
        (tf_config({"worker": WORKERS}, "evaluator", 0), "chief and worker"),
        (tf_config({"worker": WORKERS}, "worker", 3), "number 3 of 3"),
        ({"KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:1"}, "PROCESS_ID is not"),
        (
            {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:1",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "3",
                "KERAS_DISTRIBUTION_PROCESS_ID": "1",
            },
            "names 2 processes",
        ),
    ],
)
def test_what_cannot_be_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_cluster(environment)


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("a", ["a"]),
        ("a,b-1", ["a", "b-1"]),
        ("n[09-11]", ["n09", "n10", "n11"]),
        ("n[1,3]x,m[2]", ["n1x", "n3x", "m2"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
    ],
)
def test_slurm_lists_of_hosts(names: str, hosts: list[str]) -> None:
    assert expand_hosts(names) == hosts


def test_workers_meet_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.START_SECONDS, "20")
    addresses = cluster.free_addresses(3)
    met = []

    def come(rank: int, delay: float) -> None:
        time.sleep(delay)
        cluster.rendezvous(Cluster("test", rank, 3, addresses))
        met.append(rank)

    # The first one is neither the first nor the last to come.
    threads = [
        threading.Thread(target=come, args=(rank, delay))
        for rank, delay in ((1, 0.0), (0, 0.2), (2, 0.4))
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert met == []
    for thread in threads:
        thread.join(20)
    assert sorted(met) == [0, 1, 2]
    with socket.socket() as free:  # the backend can listen there now
        host, port = addresses[0].split(":")
        free.bind((host, int(port)))


def test_workers_that_never_appear_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.START_SECONDS, "0.3")
    addresses = cluster.free_addresses(3)
    with pytest.raises(TimeoutError, match=r"0\.3 s .*: 1 \(127.*, 2 \(127"):
        cluster.rendezvous(Cluster("test", 0, 3, addresses))
    with pytest.raises(TimeoutError, match="worker 2: worker 0 at 127"):
        cluster.rendezvous(Cluster("test", 2, 3, addresses))
