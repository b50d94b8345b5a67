"""The processes of a run: the launcher's group, on processors where there is no accelerator."""

from __future__ import annotations

import os

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from snnbench.config import BenchError

__all__ = ["LAUNCHERS", "for_processor", "start_processes"]

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
# the variables in which a launcher tells a process its rank, the number of ranks, and its rank on the machine
_RANKS = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


def start_processes(launcher: str) -> None:
    """Join the process group on processors; mmengine itself does so where there are accelerators.

    Raises:
        BenchError: not started by the launcher.
    """
    if launcher == "none" or torch.cuda.is_available() or torch.distributed.is_initialized():
        return
    rank, size, local = _RANKS[launcher]
    if rank not in os.environ or size not in os.environ:
        how = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}[launcher]
        raise BenchError(f"--launcher {launcher}: start the command with {how}, which sets {rank} and {size}")
    os.environ.update(
        RANK=os.environ[rank], WORLD_SIZE=os.environ[size], LOCAL_RANK=os.environ.get(local, os.environ[rank])
    )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    torch.distributed.init_process_group("gloo")


def for_processor(config: Config) -> Config:
    """Without an accelerator, a distributed model has no device number, and BatchNorm statistics of its own."""
    if config.get("launcher", "none") != "none" and not torch.cuda.is_available():
        if config.pop("sync_bn", None) is not None:
            print_log("BatchNorm stays each process's own: torch's SyncBatchNorm needs accelerators", "current")
        config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)
        config.setdefault("env_cfg", {}).setdefault("dist_cfg", {})["backend"] = "gloo"
    return config
