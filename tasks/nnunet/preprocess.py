"""Preprocess single cases into the store, with nnU-Net's own preprocessor under frozen plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import UserDataError
from tasks.ledger.files import read_json, whole_folder
from tasks.nnunet.dataset import STORED_CASE
from tasks.processes.program import run_program, serve, started_early

ONE_PROCESS = {"nnUNet_def_n_proc": "1"}
UNLABELLED = -1
"""nnU-Net's number for what lies outside of the image; it stands with the list of all labels alone."""
POSITIONS = 10_000
"""In a case, from which patches are drawn."""


def preprocess_cases(
    cases: Sequence[Mapping[str, str]],
    *,
    plans: Path,
    description: Path,
    configuration: str,
    log: Path,
) -> None:
    """Preprocess cases one after another, in a program of its own.

    ``DefaultPreprocessor.run`` empties the whole folder first and keeps its own pool; this runs
    ``run_case_save`` for what is new, which gives equal arrays (a test holds both against each other).

    Parameters
    ----------
    cases
        ``image``, ``label`` and ``folder`` (in the store) of each; folders that exist are kept.
    plans, description
        The plans and ``dataset.json``.
    configuration
        Such as ``3d_fullres``.
    """
    missing = [dict(case) for case in cases if not Path(case["folder"]).is_dir()]
    if not missing:
        return
    job = {
        "cases": missing,
        "plans": str(plans),
        "description": str(description),
        "configuration": configuration,
    }
    run_program(__name__, job, log, ONE_PROCESS)


def imported_early() -> AbstractContextManager[None]:
    """Let the program import torch while other work goes on.

    See :func:`tasks.processes.program.started_early`.
    """
    return started_early(__name__, ONE_PROCESS)


def _warm_up() -> None:
    import nnunetv2.preprocessing.preprocessors.default_preprocessor
    import nnunetv2.utilities.plans_handling.plans_handler  # noqa: F401


def _work(job: dict[str, Any]) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_json(Path(job["plans"])))
    configuration = plans.get_configuration(job["configuration"])
    description = read_json(Path(job["description"]))
    preprocessor = _sparing(configuration.preprocessor_class)(verbose=False)
    for case in job["cases"]:
        name = Path(case["image"]).parent.name
        print(f"preprocessing {name}", flush=True)  # the last line of whatever is killed for its memory
        with whole_folder(Path(case["folder"])) as folder, _named(name):
            preprocessor.run_case_save(
                str(folder / STORED_CASE),
                [case["image"]],
                case["label"],
                plans,
                configuration,
                description,
            )


@contextmanager
def _named(case: str) -> Iterator[None]:
    """Say of which case it is that nnU-Net can make nothing; what the disk says passes as it is."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise UserDataError(
            f"case {case} cannot be preprocessed: {type(error).__name__}: {error}. Every run stops here "
            "until that case is delivered otherwise, or withdrawn (`iterseg withdraw`)"
        ) from error


def _sparing(preprocessor: type[Any]) -> type[Any]:
    """nnU-Net's preprocessor, with little memory for cases of which a part is not annotated.

    Of those a patch must hold what is known, so nnU-Net lists every known voxel of the image, background too,
    sorts them (some 90 bytes for each) and keeps a hundredth in the file that is read for each patch.
    """

    class Sparing(preprocessor):  # type: ignore[misc]
        @staticmethod
        def _sample_foreground_locations(
            seg: np.ndarray[Any, Any], classes_or_regions: list[Any], *arguments: Any, **options: Any
        ) -> dict[Any, Any]:
            known: list[Any] = []
            others: list[Any] = []
            for wanted in classes_or_regions:
                of_what_is_known = isinstance(wanted, list | tuple) and UNLABELLED in wanted
                (known if of_what_is_known else others).append(wanted)
            found = preprocessor._sample_foreground_locations(seg, others, *arguments, **options)
            return {**found, **{tuple(labels): _drawn(np.isin(seg, labels)) for labels in known}}

    return Sparing


def _drawn(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Positions in a mask, drawn at random and the same each time; shape (n, axes of the mask)."""
    positions = np.flatnonzero(mask)
    draw = np.random.default_rng(1234)
    drawn = draw.choice(positions.size, min(POSITIONS, positions.size), replace=False, shuffle=False)
    return np.stack(np.unravel_index(positions[drawn], mask.shape), axis=-1)


if __name__ == "__main__":
    serve(_work, _warm_up)
