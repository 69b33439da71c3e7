"""Which processes train together: told by the environment, met before the work starts.

``TF_CONFIG``, Keras's own ``KERAS_DISTRIBUTION_*`` (with Kubernetes's index of a job's
pod as the rank), SLURM's and the TPU's variables are recognised, in this order.
"""

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

PARAMETER_SERVERS = (
    "Keras 3 does not support tf.distribute's ParameterServerStrategy; use "
    "'multi_worker', where all workers hold the weights"
)

# KerasTuner's own variables, of the chief of a sweep and its workers.
TUNER_ID, ORACLE_IP, ORACLE_PORT = (
    f"KERASTUNER_{name}" for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT")
)

# How long workers wait for one another, in seconds.
START_SECONDS = "KZOO_START_SECONDS"
DEFAULT_START_SECONDS = 300.0


@dataclass(frozen=True)
class Cluster:
    """The processes of a job.

    Attributes:
        source: what told so.
        rank: of this process, counted from 0.
        workers: number of processes.
        addresses: ``host:port`` of each by rank; or of the first alone, which JAX
            needs; or none, where the backend finds it itself.
    """

    source: str
    rank: int
    workers: int
    addresses: tuple[str, ...] = ()


def find_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """The cluster that this process is one of, or None.

    Raises:
        ValueError: the environment tells of one that cannot be.

    Example:
        >>> find_cluster({
        ...     "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1:4000,10.0.0.2:4000",
        ...     "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        ...     "KERAS_DISTRIBUTION_PROCESS_ID": "1"}).rank
        1
    """
    env = os.environ if environment is None else environment
    for known in (_of_tf_config, _of_keras, _of_slurm, _of_tpu):
        found = known(env)
        if found is None or found.workers == 1:
            continue
        if not 0 <= found.rank < found.workers:
            raise ValueError(
                f"{found.source} makes this process number {found.rank} of "
                f"{found.workers} workers, which are counted from 0"
            )
        return found
    return None


def _of_tf_config(env: Mapping[str, str]) -> Cluster | None:
    if not env.get("TF_CONFIG"):
        return None
    try:
        told = json.loads(env["TF_CONFIG"])
        jobs, task = told["cluster"], told["task"]
        kind, index = str(task["type"]), int(task["index"])
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            "TF_CONFIG is not of the form {'cluster': {'worker': ['host:port', ...]}, "
            f"'task': {{'type': 'worker', 'index': 0}}}}: {error!r}"
        ) from None
    if jobs.get("ps") or kind == "ps":
        raise ValueError(f"TF_CONFIG names parameter servers: {PARAMETER_SERVERS}")
    if kind not in ("chief", "worker"):
        raise ValueError(
            f"TF_CONFIG makes this process {kind!r}; kzoo knows chief and worker"
        )
    rank = index + (len(jobs.get("chief", [])) if kind == "worker" else 0)
    return Cluster("TF_CONFIG", rank, len(addresses), tuple(addresses))


def _of_keras(env: Mapping[str, str]) -> Cluster | None:
    prefix = "KERAS_DISTRIBUTION_"
    if not env.get(f"{prefix}JOB_ADDRESSES"):
        return None
    addresses = tuple(env[f"{prefix}JOB_ADDRESSES"].split(","))
    index = env.get(f"{prefix}PROCESS_ID")
    source = f"{prefix}JOB_ADDRESSES"
    if index is None and "JOB_COMPLETION_INDEX" in env:
        index, source = env["JOB_COMPLETION_INDEX"], "Kubernetes"
    if index is None:
        raise ValueError(
            f"{prefix}JOB_ADDRESSES is set, {prefix}PROCESS_ID is not: which of the "
            "processes is this one"
        )
    workers = int(env.get(f"{prefix}NUM_PROCESSES", len(addresses)))
    if len(addresses) not in (1, workers):
        raise ValueError(
            f"{prefix}JOB_ADDRESSES names {len(addresses)} processes, "
            f"{prefix}NUM_PROCESSES says {workers}"
        )
    return Cluster(source, int(index), workers, addresses)


def _of_slurm(env: Mapping[str, str]) -> Cluster | None:
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
    if any(name not in env for name in needed):
        return None
    hosts = expand_hosts(env["SLURM_STEP_NODELIST"])
    tasks = int(env["SLURM_NTASKS"])
    spread = env.get("SLURM_STEP_TASKS_PER_NODE") or str(-(-tasks // len(hosts)))
    counts: list[int] = []
    for part in spread.split(","):  # 2(x3),1
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    if len(counts) == 1:
        counts *= len(hosts)
    # A port of the job's own, from the last 4,096; as JAX picks it.
    port = int(env["SLURM_JOB_ID"]) % 4096 + 61440
    addresses = [
        f"{host}:{port - i}"
        for host, count in zip(hosts, counts, strict=True)
        for i in range(count)
    ]
    return Cluster("SLURM", int(env["SLURM_PROCID"]), tasks, tuple(addresses[:tasks]))


def _of_tpu(env: Mapping[str, str]) -> Cluster | None:
    hosts = [name for name in env.get("TPU_WORKER_HOSTNAMES", "").split(",") if name]
    if not hosts or "TPU_WORKER_ID" not in env:
        return None
    slices = int(env.get("MEGASCALE_NUM_SLICES", 1))
    rank = int(env["TPU_WORKER_ID"])
    rank += int(env.get("MEGASCALE_SLICE_ID", 0)) * len(hosts)
    # Over several slices JAX finds the first host itself.
    addresses = tuple(f"{host}:8482" for host in hosts) if slices == 1 else ()
    return Cluster("the TPU's environment", rank, len(hosts) * slices, addresses)


def expand_hosts(names: str) -> list[str]:
    """SLURM's list of hosts, one by one.

    Example:
        >>> expand_hosts("login,node[01-03,7]")
        ['login', 'node01', 'node02', 'node03', 'node7']
    """
    hosts: list[str] = []
    for name in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", names):
        before, bracket, rest = name.partition("[")
        if not bracket:
            hosts.append(name)
            continue
        inside, _, after = rest.partition("]")
        for part in inside.split(","):
            low, _, high = part.partition("-")
            for number in range(int(low), int(high or low) + 1):
                hosts += [f"{before}{number:0{len(low)}d}{x}" for x in tails(after)]
    return hosts


def tails(after: str) -> list[str]:
    """What follows a bracket, which may hold another one."""
    return expand_hosts(after) if after else [""]


def local_environment(
    backend: str, rank: int, addresses: tuple[str, ...]
) -> dict[str, str]:
    """What a process of this machine must be told to be ``rank`` of these.

    Example:
        >>> local_environment("tensorflow", 1, ("127.0.0.1:4000", "127.0.0.1:4001"))
        {'TF_CONFIG': '{"cluster": {"worker": ["127.0.0.1:4000", "127.0.0.1:4001"]}, \
"task": {"type": "worker", "index": 1}}'}
    """
    if backend == "tensorflow":
        told = {
            "cluster": {"worker": list(addresses)},
            "task": {"type": "worker", "index": rank},
        }
        return {"TF_CONFIG": json.dumps(told)}
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(addresses),
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(addresses)),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        # Without it JAX listens to the whole network.
        "JAX_COORDINATOR_BIND_ADDRESS": addresses[0],
    }


def sweep_environment(rank: int, address: str) -> dict[str, str]:
    """What a process of this machine must be told to take part in a sweep.

    Rank 0 is the chief, which proposes trials and listens at the address; each of the
    others trains those that it is given, on a GPU of its own where there are some.

    Example:
        >>> sweep_environment(0, "127.0.0.1:4000")["KERASTUNER_TUNER_ID"]
        'chief'
    """
    host, _, port = address.rpartition(":")
    told = {ORACLE_IP: host, ORACLE_PORT: port}
    if rank == 0:
        return told | {TUNER_ID: "chief"}
    return told | {
        TUNER_ID: worker_name(rank),
        "CUDA_VISIBLE_DEVICES": one_device(rank - 1),
    }


def worker_name(rank: int) -> str:
    """What a sweep's chief knows a process of this machine by."""
    return f"worker_{rank - 1}"


def one_device(number: int) -> str:
    """A GPU, by its number among those that this process may use."""
    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    if known is None:
        return str(number)
    visible = [device for device in known.split(",") if device]
    return visible[number % len(visible)] if visible else ""


def free_addresses(count: int) -> tuple[str, ...]:
    """Ports of the loopback that nobody listens on."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in held)


def rendezvous(cluster: Cluster) -> None:
    """Returns once all workers of a cluster are there.

    The backends wait for one another too, but end the process in their own ways where
    one does not come. The first worker listens where its backend will, hears the rank
    of each, and tells all of them to start.

    Raises:
        TimeoutError: names the ranks that did not appear in ``KZOO_START_SECONDS``.
    """
    seconds = float(os.environ.get(START_SECONDS, DEFAULT_START_SECONDS))
    if not cluster.addresses:
        return
    host, _, port = cluster.addresses[0].rpartition(":")
    deadline = time.monotonic() + seconds
    if cluster.rank:
        _meet_the_first(cluster, (host, int(port)), deadline, seconds)
    else:
        _meet_the_others(cluster, (host, int(port)), deadline, seconds)


def _meet_the_first(
    cluster: Cluster, address: tuple[str, int], deadline: float, seconds: float
) -> None:
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(address, timeout=1.0) as line:
                line.settimeout(max(0.1, deadline - time.monotonic()))
                line.sendall(b"%d\n" % cluster.rank)
                if line.recv(1):
                    return
        except OSError:  # not there yet
            pass
        time.sleep(0.05)
    raise TimeoutError(
        f"worker {cluster.rank}: worker 0 at {address[0]}:{address[1]} did not tell to "
        f"start within {seconds:g} s ({START_SECONDS})"
    )


def _meet_the_others(
    cluster: Cluster, address: tuple[str, int], deadline: float, seconds: float
) -> None:
    loopback = address[0] in ("127.0.0.1", "localhost")
    found: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1" if loopback else "", address[1]))
        listening.listen(cluster.workers)
        while len(found) < cluster.workers - 1:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = sorted(set(range(1, cluster.workers)) - set(found))
                raise TimeoutError(
                    f"{len(missing)} of {cluster.workers} workers did not appear "
                    f"within {seconds:g} s ({START_SECONDS}): "
                    + ", ".join(_named(cluster, rank) for rank in missing)
                )
            listening.settimeout(left)
            try:
                line, _ = listening.accept()
                stack.enter_context(line)
                line.settimeout(5.0)
                found[int(line.makefile("rb").readline())] = line
            except (OSError, ValueError):  # nobody, or somebody else
                continue
        for line in found.values():
            line.sendall(b"!")
        for line in found.values():
            line.recv(1)  # they hang up first, so that the port is free at once


def _named(cluster: Cluster, rank: int) -> str:
    if len(cluster.addresses) == cluster.workers:
        return f"{rank} ({cluster.addresses[rank]})"
    return str(rank)
