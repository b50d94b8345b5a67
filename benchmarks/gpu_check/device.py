"""What a part asks of the device it runs on; a processor answers where it can."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.memory import peak

__all__ = ["Device"]


class Device:
    """A GPU, or the processor in its place.

    Args:
        kind: ``"cuda"`` or ``"cpu"``.

    Raises:
        ValueError: there is no GPU.
    """

    def __init__(self, kind: str) -> None:
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "torch finds no GPU (`snnconv doctor` says more); --device cpu --small runs it all in small"
            )
        self.kind = kind
        self.cuda = kind == "cuda"

    @property
    def name(self) -> str:
        """What it is called."""
        return torch.cuda.get_device_name() if self.cuda else "processor"

    def lost(self) -> str:
        """Why nothing more runs on it; empty where it does: an invalid access ends a process's use of a GPU."""
        try:
            if self.cuda:
                torch.cuda.synchronize()
                torch.zeros(1, device="cuda").item()
        except Exception as error:  # whatever the driver says
            return f"the device no longer answers: {str(error).splitlines()[0]}"
        return ""

    def wait(self) -> None:
        """Until all that was asked is done."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], Any], repeats: int) -> float:
        """Median time of a call, after one that is not counted."""
        run()
        found = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def peak(self, run: Callable[[Tensor], Any], x: Tensor) -> int | None:
        """Bytes that a call takes at most beyond what was there; None where the system does not tell."""
        return peak(run, x)

    def side_by_side(self, run: Callable[[Tensor], Tensor], inputs: list[Tensor]) -> list[Tensor]:
        """Each input in a stream of its own, all at once."""
        streams = [torch.cuda.Stream() if self.cuda else None for _ in inputs]
        self.wait()
        found = []
        for stream, x in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
                found.append(run(x))
        self.wait()
        return found

    def recorded(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
        """A run of ``x`` as one CUDA graph, to be replayed; on a processor the run itself."""
        if not self.cuda:
            return lambda: run(x)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles and loads before the recording
            for _ in range(3):
                run(x)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = run(x)

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
