"""Answers sample by sample, in a compressed file beside a result: so that two methods are compared on the same inputs.

The result's field ``answers`` names the file and its SHA-256. A network is told by a word: ``ann``, or that of a point
(:func:`word_of`).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnbench.results.kinds import KINDS, Arrays
from snnbench.results.validation import Point, Record, ResultError, key_of
from snnconv.files.refusal import brief, refused_as
from snnconv.files.zips import read_arrays

__all__ = ["ANN", "LARGEST", "Answers", "packed", "read_answers", "word_of"]

ANN = "ann"
LARGEST = 32 * 2**20
"""Bytes of arrays beyond which a row's answers are not kept."""


@dataclass(frozen=True)
class Answers:
    """What every network of a row answered to every sample.

    Attributes:
        kind: name of a record in :data:`snnbench.results.kinds.KINDS`, which says what the arrays are.
        truth: what is equal for all networks.
        networks: word of a network → its arrays.
    """

    kind: str
    truth: Arrays = field(default_factory=dict)
    networks: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for arrays in (self.truth, *self.networks.values()) for a in arrays.values())

    def checked(self, samples: int) -> Answers:
        """The same, after a look at shapes.

        Raises:
            ValueError: an unknown kind, or arrays that are not those of the kind for so many samples.
        """
        if self.kind not in KINDS:
            raise ValueError(f"answers of the kind {self.kind!r:.100} are not known; there are {', '.join(KINDS)}")
        for word, arrays in self.networks.items():
            wrong = KINDS[self.kind].wrong(arrays, self.truth, samples)
            if wrong:
                raise ValueError(f"{word}: {wrong}")
        return self


def word_of(point: Point) -> str:
    """The word of a point's network: τ + T and the window.

    >>> word_of({"timesteps": 8, "pre_timesteps": 4, "window": [1, 8]})
    '4+8 1-8'
    """
    steps, before, window = key_of(point)
    first, last = window or (1, steps)
    return f"{before}+{steps} {first}-{last}"


def packed(answers: Answers, stem: str) -> tuple[dict[str, str], bytes]:
    """The field ``answers`` of a result, and the content of the file that it names; equal answers give equal bytes.

    The name holds the first digits of the SHA-256: whatever happens between writing two files, a result names the
    answers that belong to it.
    """
    arrays = {f"truth/{name}": a for name, a in answers.truth.items()}
    arrays |= {f"{word}/{name}": a for word, own in answers.networks.items() for name, a in own.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **dict(sorted(arrays.items())))
    content = file.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return {"file": f"{stem}.{digest[:8]}.npz", "sha256": digest, "kind": answers.kind}, content


def read_answers(path: str | os.PathLike[str], record: Record) -> Answers | None:
    """The answers of the result ``record`` in the file ``path``; None where it has none.

    Raises:
        ResultError: the file is not there, is another one than the result names, or does not hold what it should.
    """
    told: dict[str, Any] | None = record.get("answers")
    if told is None:
        return None
    place = Path(path).with_name(told["file"])
    try:
        found = hashlib.sha256(place.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise ResultError(
            f"{path}: its answers {place.name} are not beside it; bring them, or take the field answers out"
        ) from error
    except OSError as error:
        raise ResultError(f"{place}: cannot be read ({error.strerror})") from error
    if found != told["sha256"]:
        raise ResultError(f"{place}: not the answers that {Path(path).name} names: its SHA-256 differs; get it again")
    networks: dict[str, dict[str, Any]] = {}
    with refused_as(ResultError):
        for name, value in read_arrays(place).items():
            word, _, part = name.rpartition("/")
            networks.setdefault(word, {})[part] = value.numpy()
    try:
        return Answers(told["kind"], networks.pop("truth", {}), networks).checked(int(record["samples"]))
    except ValueError as error:
        raise ResultError(f"{place}: {brief(error)}") from error
