"""Client processes that begin together."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

# From when all are ready to when they begin; by then each has heard of it.
BEGINS_IN = 0.2
READY_SECONDS = 60.0


class Side:
    """What a client process has of it."""

    def __init__(self, answers: Any, pipe: Any) -> None:
        self._answers = answers
        self._pipe = pipe

    def ready(self) -> float:
        """Say that all is prepared; returns the time, of `time.monotonic`, at which everybody begins."""
        self._answers.put("")
        begins: float = self._pipe.recv()
        return begins


Work = Callable[[dict[str, Any], Side], Any]


def _process(work: Work, task: dict[str, Any], answers: Any, pipe: Any) -> None:
    try:
        answer = {"found": work(task, Side(answers, pipe))}
    except BaseException as exc:
        answer = {"failed": f"{type(exc).__name__}: {exc}"[:300]}
    answers.put(json.dumps(answer))


def gather(
    work: Work,
    tasks: Sequence[dict[str, Any]],
    seconds: float,
    meanwhile: Callable[[float], None] = lambda begins: None,
) -> list[Any]:
    """What `work` returns in one process per task, all begun together.

    Parameters:
        work: a function of a module, called with a task and its `Side`.
        tasks: values that can be pickled.
        seconds: how long the work may take.
        meanwhile: called here with the time at which it begins.

    Raises `RuntimeError` with the words of a process that failed.
    """
    # As with "spawn", none has anything of this process; but what they work with is imported only once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    answers = context.Queue()
    running, pipes = [], []
    for task in tasks:
        ours, theirs = context.Pipe()
        process = context.Process(target=_process, args=(work, task, answers, theirs), daemon=True)
        process.start()
        running.append(process)
        pipes.append(ours)
    found: list[Any] = []

    def take(timeout: float) -> bool:
        text = answers.get(timeout=timeout)
        if text:
            answer = json.loads(text)
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
            found.append(answer["found"])
        return bool(text)

    try:
        for _ in tasks:
            take(READY_SECONDS)
        begins = time.monotonic() + BEGINS_IN
        for pipe in pipes:
            pipe.send(begins)
        meanwhile(begins)
        while len(found) < len(tasks):
            take(seconds + READY_SECONDS)
    finally:
        for process in running:
            process.kill()
            process.join()
    return found
