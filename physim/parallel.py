"""One program on several processes ("ranks") that `torchrun` has started: who does what, and how the parts meet.

Ranks meet in one kind of call only, and a failure travels in the same call as a result. So a rank that fails anywhere
inside `Ranks.together` meets the others wherever they wait next, and all raise what it says instead of waiting.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from physim import errors
from physim.errors import InputError, PhysimError, RankError
from physim.trees import from_bytes, to_bytes

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 3600.0
"""How long a rank waits for the others [s]: longer than the longest share of work between two meetings."""
_MEETINGS = itertools.count()
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells every process it starts."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Lost(RankError):
    """A rank has ended or does not answer: there is nobody left to tell."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together.

    Attributes:
        rank: which one this is, from 0.
        size: how many there are.
        device: where this one computes.
        cores: CPU threads that this one may use.
        members: their numbers among all processes of the program, which messages name.
        group: what torch.distributed knows them by; None for all.
        timeout: how long one waits for the others [s].
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cores: int = field(default_factory=available_cores)
    members: tuple[int, ...] = (0,)
    group: Any = None
    timeout: float = PATIENCE

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks for all."""
        return self.rank == 0

    def share(self, items: Iterable[A]) -> list[A]:
        """This rank's items: every `size`-th, beginning with its own number."""
        return list(items)[self.rank :: self.size]

    def map(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """Results of `function` on every item, in order, on every rank; each does its share."""
        return self.in_order(self.gather(lambda: [function(i) for i in self.share(items)]), len(items))

    def gather(self, make: Callable[[], A]) -> list[A]:
        """What `make` returns on each rank, by rank, on every rank: the same bits whatever the number of ranks.

        Args:
            make: returns tensors, numbers, strings, None, and lists, tuples and dicts of them; tensors come back on
                the CPU. An exception in it is raised on all ranks: elsewhere in the nearest class of
                `physim.errors`, with the number of the rank and the message.

        Raises:
            RankError: another rank failed with an exception that is not physim's, has ended, or did not answer.
        """
        if self.size == 1:
            return [make()]
        failure: Exception | None = None
        try:
            data = to_bytes(make())
        except Exception as error:
            if self._known(error):
                raise
            failure, data = error, to_bytes(self._told(error))
        parts, failed = self._exchange(data, failure is not None)
        if any(failed):
            raised = failure or _raised_elsewhere(from_bytes(parts[failed.index(True)]))
            raised.known_to = self.members  # type: ignore[attr-defined]
            raise raised
        return [from_bytes(p) for p in parts]

    def in_order(self, parts: Sequence[Sequence[B]], count: int) -> list[B]:
        """The results of `count` shared items in the order of the items, from each rank's results.

        Raises:
            RankError: a rank has not done its share, but something else.
        """
        for rank, part in enumerate(parts):
            due = len(range(rank, count, self.size))
            if len(part) != due:
                raise RankError(
                    f"the ranks no longer do the same: rank {self.members[rank]} comes with {len(part)} results where "
                    f"{due} are its share. Give every rank the same input, and every machine the same versions."
                )
        return [parts[k % self.size][k // self.size] for k in range(count)]

    def from_first(self, make: Callable[[], A]) -> A:
        """What `make` returns on the first rank, on every rank; the others do not call it."""
        return self.gather(lambda: make() if self.first else None)[0]  # type: ignore[return-value]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave only when all do; what was raised inside on one rank is then raised on all."""
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            if self._known(error):
                raise
            failure = error

        def end() -> None:
            if failure is not None:
                raise failure

        self.gather(end)

    def reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks: the same on every rank, and rounded as their number has it.

        Raises:
            InputError: the ranks do not give tensors of the same shapes.
        """
        given = list(tensors)
        if self.size == 1 or not given:
            return
        shapes = self.gather(lambda: [[str(t.dtype), *t.shape] for t in given])
        for rank, other in enumerate(shapes):
            if other != shapes[0]:
                raise InputError(
                    f"rank {self.members[rank]} sums {other}, rank {self.members[0]} {shapes[0]}: every rank must "
                    "give the same tensors in the same order."
                )
        for like in dict.fromkeys((t.dtype, t.device) for t in given):
            mine = [t for t in given if (t.dtype, t.device) == like]
            flat = torch.cat([t.detach().reshape(-1) for t in mine])
            self._waiting(lambda flat=flat: dist.all_reduce(flat, group=self.group))
            with torch.no_grad():
                for tensor, total in zip(mine, flat.split([t.numel() for t in mine]), strict=True):
                    tensor.copy_(total.view_as(tensor))

    def reduce_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients of parameters over the ranks; where a rank had nothing to do, its gradient is zero."""
        wanted = [p for p in parameters if p.requires_grad]
        for p in wanted:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.reduce(p.grad for p in wanted if p.grad is not None)

    def groups(self, most: int) -> int:
        """Into how many groups of equal size these ranks can be split, `most` of them at most."""
        return max(n for n in range(1, self.size + 1) if self.size % n == 0 and (n <= most or n == 1))

    @contextmanager
    def split(self, count: int) -> Iterator[tuple[int, Ranks]]:
        """Number and ranks of the group of equal size that this rank belongs to, of `count`."""
        if count == 1:
            yield 0, self
            return
        width = self.size // count
        mine, rank = divmod(self.rank, width)
        members = self.members[mine * width : (mine + 1) * width]
        group: Any = None
        if width > 1:
            limit = timedelta(seconds=self.timeout)
            group = dist.new_group(list(members), timeout=limit, use_local_synchronization=True)
        try:
            yield mine, replace(self, rank=rank, size=width, members=members, group=group)
        finally:
            if group is not None:
                dist.destroy_process_group(group)

    def _known(self, error: Exception) -> bool:
        """Whether all these ranks have met over an exception already, or cannot any more."""
        return isinstance(error, Lost) or set(self.members) <= set(getattr(error, "known_to", ()))

    def _told(self, error: Exception) -> list[Any]:
        """Classes and message of an exception, with the rank in which it came up."""
        text = str(error) if isinstance(error, PhysimError) else f"{type(error).__name__}: {error}"
        if not re.match(r"rank \d+: ", text):
            text = f"rank {self.members[self.rank]}: {text}"
        return [[c.__name__ for c in type(error).__mro__], text]

    def _exchange(self, data: bytes, failed: bool) -> tuple[list[bytes], list[bool]]:
        """Bytes and failures of every rank, by rank."""
        head = torch.tensor([int(failed), len(data)])
        heads = [torch.empty_like(head) for _ in range(self.size)]
        self._waiting(lambda: dist.all_gather(heads, head, group=self.group))
        lengths = [int(h[1]) for h in heads]
        mine = torch.zeros(max(lengths), dtype=torch.uint8)
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        bodies = [torch.empty_like(mine) for _ in range(self.size)]
        self._waiting(lambda: dist.all_gather(bodies, mine, group=self.group))
        parts = [b[:n].numpy().tobytes() for b, n in zip(bodies, lengths, strict=True)]
        return parts, [bool(h[0]) for h in heads]

    def _waiting(self, call: Callable[[], Any]) -> None:
        """A call of torch.distributed, with its failures in words."""
        try:
            call()
        except RuntimeError as error:
            me = f"rank {self.members[self.rank]}"
            if re.search(r"timed? ?out", str(error), re.IGNORECASE):
                text = f"{me} waited {self.timeout:g} s for the other ranks; one of them hangs, or has much more to do."
            else:
                text = f"{me} has lost another rank, which ended without a word: killed, or out of memory?"
            raise Lost(f"{text} ({str(error).splitlines()[0][:200]})") from None


ALONE = Ranks()
"""The one process of a program that nobody has started several times."""


def launched() -> bool:
    """Whether `torchrun` has started this process as one of several."""
    return all(name in os.environ for name in LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def ranks(*, device: str | None = None, timeout: float = PATIENCE) -> Iterator[Ranks]:
    """The ranks of this program, under `torchrun`; this process alone without it.

    Each rank gets its part of the machine: `cuda:LOCAL_RANK` and nccl where CUDA exists, else the CPU and gloo, and
    the cores divided by the ranks as torch's threads.

    Args:
        device: `cpu`, or `cuda` for a GPU per rank; the latter where there is one unless given.
        timeout: how long a rank waits for the others [s].

    Raises:
        InputError: no such device, or fewer GPUs than ranks on this machine.
        RankError: the ranks do not find each other.
    """
    if not launched():
        yield Ranks(device=_device(device, 0, 1), timeout=timeout)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local, here = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    place = _device(device, local, here)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    mine = not dist.is_initialized()  # else whoever made the group also ends it
    if mine:
        # What is gathered lies on the CPU in either case.
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        limit = timedelta(seconds=timeout)
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=limit))  # pyright: ignore[reportPrivateImportUsage]
            # Addresses of a group that has ended must not be taken for those of this one.
            store = dist.PrefixStore(  # pyright: ignore[reportPrivateImportUsage]
                f"physim {next(_MEETINGS)}", store
            )
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        except RuntimeError as error:
            raise RankError(f"rank {rank} does not find the {size - 1} others: {error}") from None
    before, cores = torch.get_num_threads(), max(1, available_cores() // here)
    torch.set_num_threads(cores)
    try:
        yield Ranks(rank, size, place, cores, tuple(range(size)), None, timeout)
    finally:
        torch.set_num_threads(before)
        if mine:
            dist.destroy_process_group()


def _device(wanted: str | None, local: int, here: int) -> torch.device:
    """The device of the rank with number `local` of the `here` on this machine."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted is None:
        wanted = "cuda" if found >= here else "cpu"
    try:
        place = torch.device(wanted)
    except RuntimeError:
        raise InputError(f"device '{wanted}' is unknown; give `cpu` or `cuda`.") from None
    if place.type != "cuda":
        return place
    if place.index is not None and here > 1:
        raise InputError(f"device '{wanted}' is a single GPU, and there are {here} ranks; give `cuda` for one each.")
    if found == 0:
        raise InputError(f"device '{wanted}': torch finds no CUDA device here (`physim doctor`); give `cpu`.")
    index = local if place.index is None else place.index
    if found < max(here, index + 1):
        raise InputError(
            f"device '{wanted}': {here} ranks on this machine, which has {found} GPUs. Start as many ranks as GPUs "
            "(`torchrun --nproc-per-node`), or give `cpu`."
        )
    return torch.device("cuda", index)


def _raised_elsewhere(told: list[Any]) -> PhysimError:
    """An exception of another rank in the nearest class that is known here."""
    names, text = told
    known = [getattr(errors, n, None) for n in names]
    kinds = [c for c in known if isinstance(c, type) and issubclass(c, PhysimError)]
    return kinds[0](text) if kinds else RankError(text)
