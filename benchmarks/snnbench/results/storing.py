"""A result and the answers beside it, written together."""

from __future__ import annotations

from pathlib import Path

from snnbench.results.answers import ANN, LARGEST, Answers, packed, read_answers, word_of
from snnbench.results.files import as_bytes, write_together
from snnbench.results.validation import Record, ResultError
from snnconv.files.refusal import brief

__all__ = ["write_with_answers"]


def write_with_answers(path: Path, record: Record, found: Record | None, same: bool, answers: Answers | None) -> None:
    """Write a checked record, with the answers of its points beside it; both are on the disk before it names them.

    Args:
        path: the result's file.
        record: what it is to hold.
        found: what it holds; the answers that it names are removed where the new ones are others.
        same: whether that is of the same config: answers of its points stay.
        answers: of this run.

    Raises:
        ResultError: a file that cannot be written, or answers that are not those of the row's samples.
    """
    kept = _joined(path, record, found if same else None, answers)
    content = {name: value for name, value in record.items() if name != "answers"}
    if kept is not None and kept.size > LARGEST:
        note = f"Answers to the samples take {kept.size / 2**20:.0f} MiB and are not kept."
        content["notes"] = list(dict.fromkeys([*content.get("notes", []), note]))
        kept = None
    files: dict[Path, bytes] = {}
    if kept is not None:
        content["answers"], arrays = packed(kept, path.stem)
        files[path.with_name(content["answers"]["file"])] = arrays
    write_together({**files, path: as_bytes(content)})
    old = None if found is None else found.get("answers")
    if old and old["file"] != content.get("answers", {}).get("file"):
        path.with_name(old["file"]).unlink(missing_ok=True)


def _joined(path: Path, record: Record, found: Record | None, answers: Answers | None) -> Answers | None:
    """This run's answers and the stored ones, of the points that the record has."""
    stored = None if found is None else read_answers(path, found)
    if answers is None:
        answers, stored = stored, None
    if answers is None:
        return None
    networks = dict(answers.networks)
    if stored is not None and stored.kind == answers.kind:
        networks = {**stored.networks, **networks}
    words = {ANN, *map(word_of, record["points"])}
    kept = Answers(answers.kind, answers.truth, {word: own for word, own in networks.items() if word in words})
    try:
        return kept.checked(int(record["samples"]))
    except ValueError as error:
        raise ResultError(f"{path}: its answers: {brief(error)}") from error
