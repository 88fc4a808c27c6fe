"""Faults of processes, memory, disks and networks, provoked on this machine. Some need root (namespaces, a cgroup)."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.ports import free_port

from .workshop import Workshop, static, torchrun

Fault = Callable[[Workshop], str]

GROUP = """
import os, sys, time
from datetime import timedelta
import torch
import torch.distributed as dist
dist.init_process_group("gloo", timeout=timedelta(seconds=int(os.environ.get("SECONDS_", "30"))))
rank = dist.get_rank()
dist.all_reduce(torch.ones(8))
print("step 1 | loss 2.3", flush=True)
"""
#: The other ranks go on until they notice.
GO_ON = """
while True:
    dist.all_reduce(torch.ones(8))
    time.sleep(0.05)
"""
SHARED_MEMORY = """
import torch
from torch.utils.data import DataLoader
class Images(torch.utils.data.Dataset):
    def __len__(self): return 64
    def __getitem__(self, i): return torch.zeros(3, 256, 256)
for batch in DataLoader(Images(), batch_size=8, num_workers=2): pass
"""


def _failing(at: Workshop, name: str, text: str, seconds: int = 30) -> str:
    """Two ranks; the second does `text` after the first step."""
    indented = "\n".join(f"    {line}" for line in text.strip().splitlines())
    program = at.program(f"{name}.py", f"{GROUP}if rank == 1:\n{indented}\n{GO_ON}")
    return at.run(torchrun(program), SECONDS_=str(seconds))


def _bash(script: str, *commands: list[str]) -> list[str]:
    return ["bash", "-c", script + '\nexec "$@"', "-", *[word for command in commands for word in command]]


def healthy(at: Workshop) -> str:
    return at.run(at.train("healthy"))


def healthy_zero2(at: Workshop) -> str:
    return at.run(at.train("zero2", "--deepspeed", "zero2.json"))


def killed(at: Workshop) -> str:
    """The kernel's OOM killer, in a cgroup of 700 MiB."""
    group = Path("/sys/fs/cgroup/memory/alignlaunch-provoke")
    group.mkdir(exist_ok=True)
    try:
        (group / "memory.limit_in_bytes").write_text(str(900 << 20))
        program = at.program(
            "eats.py", f"{GROUP}if rank == 1:\n    kept = [b'x' * (50 << 20) for _ in range(99)]\n{GO_ON}"
        )
        return at.run(_bash(f"echo $$ > {group}/cgroup.procs", torchrun(program)))
    finally:
        subprocess.run(["rmdir", str(group)], check=False)


def killed_nodes(at: Workshop) -> str:
    """A process of one node was killed; the other node says first that it has lost it."""
    program = at.program("leaves.py", f"{GROUP}if rank == 1:\n    os.kill(os.getpid(), 9)\n{GO_ON}")
    port = free_port()
    return at.run(static(0, port, program, timeout=30), static(1, port, program, timeout=30))


def peer_lost(at: Workshop) -> str:
    """The log of the node that was left alone."""
    return "".join(f"{line}\n" for line in killed_nodes(at).splitlines() if line.startswith("0: "))


def host_memory(at: Workshop) -> str:
    program = at.program("large.py", f"{GROUP}if rank == 1:\n    torch.empty(1 << 45)\n{GO_ON}")
    return at.run(torchrun(program))


def shared_memory(at: Workshop) -> str:
    program = at.program("images.py", SHARED_MEMORY)
    script = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    return at.run(["unshare", "--mount", *_bash(script, torchrun(program, processes=1))])


def disk_full(at: Workshop) -> str:
    """The checkpoint does not fit on a disk of 1 MiB."""
    (at.folder / "out").mkdir(exist_ok=True)
    train = {"save_strategy": "steps", "save_steps": 2}
    script = "mount -t tmpfs -o size=200k tmpfs out"
    return at.run(["unshare", "--mount", *_bash(script, at.train("full", train=train))])


def disk_full_torch(at: Workshop) -> str:
    program = at.program("saves.py", f"{GROUP}torch.save(torch.zeros(1 << 20), 'out/large.pt')")
    (at.folder / "out").mkdir(exist_ok=True)
    return at.run(["unshare", "--mount", *_bash("mount -t tmpfs -o size=200k tmpfs out", torchrun(program))])


def open_files(at: Workshop) -> str:
    return _failing(
        at,
        "opens",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))\n"
        "kept = [open(__file__) for _ in range(99)]",
    )


def permission(at: Workshop) -> str:
    at.folder.chmod(0o755)
    return _failing(at, "writes", "os.setuid(65534)\nopen('mine.txt', 'w')")


def segfault(at: Workshop) -> str:
    return _failing(at, "crashes", "import ctypes\nctypes.string_at(0)")


def unknown(at: Workshop) -> str:
    return _failing(at, "raises", "raise KeyError('chosen')")


def version(at: Workshop) -> str:
    return _failing(
        at, "older", "from transformers.utils.versions import require_version\nrequire_version('torch>=99')"
    )


def missing_package(at: Workshop) -> str:
    """A job script with a python that has no torch."""
    return at.run(["/usr/bin/python3", *torchrun("train.py")[1:]], PYTHONPATH="")


def missing_package_train(at: Workshop) -> str:
    return _failing(at, "imports", "import flash_attn")


def port_in_use(at: Workshop) -> str:
    program = at.program("plain.py", GROUP)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - as whoever holds it does
        taken.listen()
        return at.run(static(0, taken.getsockname()[1], program), seconds=60)


def interface(at: Workshop) -> str:
    return at.run(torchrun(at.program("plain.py", GROUP)), GLOO_SOCKET_IFNAME="ib7")


def gloo_connect(at: Workshop) -> str:
    """Two network namespaces; gloo is led to the loopback of each."""
    program = at.program("plain.py", GROUP)
    made = """
        ip netns add alp0; ip netns add alp1
        ip link add alp0 type veth peer name alp1
        for i in 0 1; do
            ip link set alp$i netns alp$i; ip -n alp$i addr add 10.77.0.$((i + 1))/24 dev alp$i
            ip -n alp$i link set alp$i up; ip -n alp$i link set lo up
        done"""
    subprocess.run(["bash", "-ec", made], check=True)
    try:
        commands = [
            ["ip", "netns", "exec", f"alp{i}", "env", *static(i, 29500, program, address="10.77.0.1", timeout=30)]
            for i in range(2)
        ]
        return at.run(*commands, seconds=60, GLOO_SOCKET_IFNAME="lo", SECONDS_="10")
    finally:
        subprocess.run(["bash", "-c", "ip netns del alp0; ip netns del alp1"], check=False)


def name_resolution(at: Workshop) -> str:
    return at.run(static(1, 29500, at.program("plain.py", GROUP), address="no-such-host.invalid"), seconds=120)


def rendezvous_timeout(at: Workshop) -> str:
    return at.run(static(0, free_port(), at.program("plain.py", GROUP)), seconds=60)


def rendezvous_timeout_c10d(at: Workshop) -> str:
    endpoint = f"127.0.0.1:{free_port()}"
    options = f"--nnodes=2 --rdzv-backend=c10d --rdzv-endpoint={endpoint} --rdzv-conf is_host=1,join_timeout=5"
    return at.run(torchrun(at.program("plain.py", GROUP), processes=1, options=options), seconds=60)


def rendezvous_unreachable_duplicate(at: Workshop) -> str:
    """NODE_RANK 1 twice, and no 0."""
    program, port = at.program("plain.py", GROUP), free_port()
    return at.run(static(1, port, program), static(1, port, program), seconds=120)


def node_rank(at: Workshop) -> str:
    """The rendered script with NODE_RANK 0 on both nodes."""
    at.render("twice", nnodes=2, preflight_timeout=0)  # what is said without it
    script = ["bash", "launch/twice/bash/torchrun.sh", "0", "2", "1", "127.0.0.1", str(free_port())]
    return at.run(script, script, NODE_RANK="0", PET_RDZV_CONF="timeout=10", ALIGNLAUNCH_PYTHON=sys.executable)


def preflight(at: Workshop) -> str:
    """Two nodes that were not started for the same number of processes."""
    at.render("unlike", nnodes=2, preflight_timeout=10)
    port = str(free_port())
    nodes = [
        [f"NODE_RANK={node}", "bash", "launch/unlike/bash/torchrun.sh", "0", "2", str(1 + node), "127.0.0.1", port]
        for node in (0, 1)
    ]
    return at.run(*nodes, ALIGNLAUNCH_PYTHON=sys.executable)


def first_collective(at: Workshop) -> str:
    """One of the two processes does not come to the first all-reduce of the run."""
    program = at.program(
        "late.py",
        "import os, time\nfrom alignlaunch.train.preflight import collectives\n"
        "from alignlaunch.train.processes import rendezvous\ncollectives.DEADLINE = 5.0\n"
        "place = rendezvous.read(os.environ)\nrendezvous.initialise(place, 60)\n"
        "time.sleep(30 * place.rank)\nprint(collectives.check(place))\n",
    )
    return at.run(torchrun(program))


def port_in_use_duplicate(at: Workshop) -> str:
    """NODE_RANK 0 twice on one host."""
    program, port = at.program("plain.py", GROUP), free_port()
    return at.run(static(0, port, program), static(0, port, program), seconds=120)


def rendezvous_unreachable(at: Workshop) -> str:
    options = f"--nnodes=2 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{free_port()} --rdzv-conf is_host=0"
    return at.run(torchrun(at.program("plain.py", GROUP), processes=1, options=options), seconds=240)


def collective_timeout(at: Workshop) -> str:
    """Rank 1 does not come to a collective; both leave the flight recorder's dump as NCCL's watchdog does."""
    dump = "from torch._C import _distributed_c10d as c\nopen(f'fr_rank_{rank}', 'wb').write(c._dump_fr_trace())\n"
    wait = "if rank == 1:\n    time.sleep(8)\nelse:\n    try:\n        dist.all_reduce(torch.ones(8))\n    finally:\n"
    indented = "".join(f"        {line}\n" for line in dump.splitlines())
    program = at.program("hangs.py", f"{GROUP}{wait}{indented}{dump}")
    return at.run(torchrun(program), SECONDS_="5", TORCH_FR_BUFFER_SIZE="2000")


def data(at: Workshop) -> str:
    (at.folder / "broken.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}\n')
    return at.run(at.train("data", data={"train": ["broken.jsonl"], "cache_dir": "cache"}))


def data_column(at: Workshop) -> str:
    (at.folder / "other.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 4)
    return at.run(at.train("column", data={"train": ["other.jsonl"], "cache_dir": "cache"}))


def model(at: Workshop) -> str:
    return at.run(at.train("model", model="models/absent"))


def refused(at: Workshop) -> str:
    return at.run(at.train("refused", train={"no_such_argument": 1}))


def checkpoint(at: Workshop) -> str:
    """In a folder whose name says data."""
    return at.run(at.train("checkpoint", output_dir="data/out", train={"resume_from_checkpoint": True}))


def deepspeed_json(at: Workshop) -> str:
    at.zero("clash.json", gradient_accumulation_steps=7)
    return at.run(at.train("clash", "--deepspeed", "clash.json"))


def zero_split(at: Workshop) -> str:
    """Two processes save under ZeRO-2, one resumes."""
    train = {"save_strategy": "steps", "save_steps": 4}
    at.run(at.train("split", "--deepspeed", "zero2.json", train=train))
    again = train | {"resume_from_checkpoint": True, "max_steps": 8}
    return at.run(at.train("split", "--deepspeed", "zero2.json", train=again, processes=1))


def stopped(at: Workshop) -> str:
    """Somebody asks it to stop, once it trains."""
    ask = 'until grep -qs loss out/stopped/metrics.jsonl; do sleep 0.1; done; echo "stop /a" > out/stopped/.request'
    train = at.train("stopped", train={"max_steps": 100_000})
    return at.run(_bash(f"({ask}) &", train), ALIGNLAUNCH_RUN_DIR="/a")


def hang(at: Workshop) -> str:
    """One rank does not come back from its user's code."""
    text = """
import os, time
from alignlaunch.train import __main__
from alignlaunch.train.stages import finite
before = finite.FiniteTrainer.training_step
def training_step(self, *args, **kwargs):
    while self.state.global_step == 5 and os.environ["RANK"] == "1":
        time.sleep(1)
    return before(self, *args, **kwargs)
finite.FiniteTrainer.training_step = training_step
__main__.main()
"""
    at.train("hung", hang_timeout=5, train={"max_steps": 100_000})
    return at.run(torchrun(at.program("hangs.py", text), "runs/hung.yaml"))


def nan(at: Workshop) -> str:
    return at.run(at.train("nan", train={"learning_rate": 1e30, "max_grad_norm": 0}))


def nan_unnoticed(at: Workshop) -> str:
    """A script of the user's own: transformers trains on, and shows the mean of the earlier losses."""
    script = at.program(
        "own.py",
        """
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
tokenizer = AutoTokenizer.from_pretrained("model")
ids = tokenizer("a good answer is short")["input_ids"]
rows = [{"input_ids": ids, "labels": ids}] * 32
args = TrainingArguments("own", max_steps=4, learning_rate=1e30, max_grad_norm=0, logging_steps=1, use_cpu=True)
Trainer(AutoModelForCausalLM.from_pretrained("model"), args, train_dataset=rows).train()
""",
    )
    return at.run(torchrun(script))


#: File → how to get it. What stands before the first dot is the verdict.
FAULTS: dict[str, Fault] = {
    "no-failure": healthy,
    "no-failure.zero2": healthy_zero2,
    "killed": killed,
    "killed.nodes": killed_nodes,
    "peer-lost": peer_lost,
    "host-memory": host_memory,
    "shared-memory": shared_memory,
    "disk-full": disk_full,
    "disk-full.torch": disk_full_torch,
    "open-files": open_files,
    "permission": permission,
    "segfault": segfault,
    "unknown": unknown,
    "version": version,
    "missing-package": missing_package,
    "missing-package.import": missing_package_train,
    "preflight": preflight,
    "first-collective": first_collective,
    "node-rank": node_rank,
    "port-in-use": port_in_use,
    "port-in-use.node-rank-0-twice": port_in_use_duplicate,
    "interface": interface,
    "gloo-connect": gloo_connect,
    "name-resolution": name_resolution,
    "rendezvous-timeout": rendezvous_timeout,
    "rendezvous-timeout.c10d": rendezvous_timeout_c10d,
    "rendezvous-unreachable.node-rank-1-twice": rendezvous_unreachable_duplicate,
    "rendezvous-unreachable": rendezvous_unreachable,
    "collective-timeout": collective_timeout,
    "data": data,
    "data.column": data_column,
    "model": model,
    "refused": refused,
    "checkpoint": checkpoint,
    "deepspeed-json": deepspeed_json,
    "zero-split": zero_split,
    "stopped": stopped,
    "hang": hang,
    "nan": nan,
    "nan-unnoticed": nan_unnoticed,
}
