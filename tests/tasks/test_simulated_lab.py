"""A lab plays with patients of whom nobody can tell who they are, and tells nobody of what it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dicom_factory import ball, write_rois, write_segments, write_series
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.simulate
from tasks.dicom.case import case_id_of
from tasks.dicom.seg import SegObject
from tasks.errors import ConfigError, UserDataError
from tasks.fates import pending_cases
from tasks.ingest import take_delivery
from tasks.ledger.home import at_home, is_a_lab
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.withdrawals import add_withdrawal
from tasks.outcomes import remember_outcomes
from tasks.settings.dataset import check_choices, load_dataset_settings
from tasks.settings.simulation import NOT_ANNOTATED, Arm, Reader, Simulation
from tasks.shown import artifacts as shown
from tasks.shown import events
from tasks.simulate import deliver
from tasks.simulated_lab import Lab, _key_of, keep_first_round, open_lab, truth_of
from tasks.state import state_at

SHAPE = (6, 20, 24)


def key(home: Path, seed: int = 1, **more: Any) -> str:
    source = DatasetPaths(home, "D")
    return _key_of(Lab(source, "a", Arm(), seed), Simulation(arms={"a": Arm()}, **more))


def secret(home: Path, text: str) -> None:
    file = DatasetPaths(home, "D").patient_key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_its_key_follows_from_the_datasets_own(home: Path) -> None:
    secret(home, "one")
    keys = {key(home), key(home, seed=2)}
    secret(home, "other")
    assert len({*keys, key(home), key(home, seed=2)}) == 4
    assert key(home) == key(home)


def test_public_data_may_be_played_alike_by_everybody(home: Path) -> None:
    secret(home, "one")
    before = key(home, places_key="hippocampus")
    secret(home, "other")
    assert key(home, places_key="hippocampus") == before != key(home, seed=2, places_key="hippocampus")


def test_what_a_lab_does_is_no_news_of_the_dataset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **_: told.append(event))
    monkeypatch.setattr(shown, "create_table_artifact", lambda **made: told.append(made["key"]))
    lab = home / "data" / "simulations" / "D" / "random-1"
    lab.mkdir(parents=True)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        for where in (lab, home):
            with at_home(where):
                assert is_a_lab() is (where == lab)
                events.tell_event("iterseg.model.promoted", "D")
                shown.show_table("train", "D", [], "")
    assert told == ["iterseg.model.promoted", "train-d"]


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Lab:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    scan = write_series(tmp_path / "scan", (6, 20, 24))
    write_rois(tmp_path / "scan" / "rt.dcm", scan, {"GTV": ball((6, 20, 24), (3, 8, 8), 3)})
    take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 24))
    return Lab(DatasetPaths(home, "D"), "a", Arm(), 1)


def test_a_lab_that_was_begun_with_other_choices_is_not_played_on(lab: Lab) -> None:
    """Its rounds would stand beside settings that they were not made with."""
    simulation = Simulation(arms={"a": Arm()})
    open_lab.fn(lab, simulation)
    open_lab.fn(lab, Simulation(arms={"a": Arm()}, rounds=9, seeds=[1, 2]))
    other = replace(lab, arm=Arm(settings={"training": {"epochs_first": 5}}))
    for changed, of in ((other, simulation), (lab, Simulation(arms={"a": Arm()}, budget=3))):
        with pytest.raises(ConfigError, match="lab a-1 has begun with other choices .* give the arm another"):
            open_lab.fn(changed, of)


def test_a_round_that_is_noted_again_takes_its_own_place(lab: Lab) -> None:
    """A task that is tried again has been there before."""
    for row in ({"round": 1}, {"round": 2}, {"round": 2, "again": True}):
        lab.note(row)
    assert lab.rounds() == [{"round": 1}, {"round": 2, "again": True}]


def test_a_lab_does_not_go_on_with_somebody_who_was_withdrawn(lab: Lab) -> None:
    simulation = Simulation(arms={"a": Arm()})
    open_lab.fn(lab, simulation)
    (case,) = (folder.name for folder in lab.delivery(0).iterdir() if folder.is_dir())
    add_withdrawal(lab.source.withdrawals, date(2026, 11, 24), [case])
    with pytest.raises(ConfigError, match="lab a-1 learns from somebody who was withdrawn since; delete"):
        open_lab.fn(lab, simulation)


def test_a_first_round_that_was_kept_is_played_anew_without_them(lab: Lab, tmp_path: Path) -> None:
    """Else it would come back with everybody in it, and so would each other arm of the seed."""
    other = write_series(tmp_path / "other" / "ct", SHAPE, name="other", patient="P-2")
    write_rois(tmp_path / "other" / "rt.dcm", other, {"GTV": ball(SHAPE, (3, 8, 8), 3)}, name="other rt")
    take_delivery.fn("D", tmp_path / "other", date(2026, 11, 25))
    simulation, gone = Simulation(arms={"a": Arm(), "b": Arm()}), case_id_of(other.uids["series"])
    open_lab.fn(lab, simulation)
    keep_first_round.fn(lab, simulation)
    add_withdrawal(lab.source.withdrawals, date(2026, 11, 25), [gone])
    second = replace(lab, name="b")
    open_lab.fn(second, simulation)
    keep_first_round.fn(second, simulation)
    third = replace(lab, name="c")
    open_lab.fn(third, simulation)
    for one in (second, third):
        assert len(list(one.delivery(0).iterdir())) == 1
        assert not (one.delivery(0) / gone).exists()


def test_where_it_computes_may_change_between_its_rounds(lab: Lab) -> None:
    clusters = lab.source.config / "clusters"
    clusters.mkdir(exist_ok=True)
    for walltime in ("01:00:00", "09:00:00"):
        (clusters / "c.yaml").write_text(walltime)
        open_lab.fn(lab, Simulation(arms={"a": Arm()}))
        assert (lab.paths.config / "clusters" / "c.yaml").read_text() == walltime


def test_it_takes_no_identities_from_folders_that_have_none(lab: Lab) -> None:
    (lab.source.config / "dataset_D.yaml").write_text("deidentify_folders: true\n")
    open_lab.fn(lab, Simulation(arms={"a": Arm()}))
    assert not load_dataset_settings(lab.paths.config, "D").deidentify_folders


def test_what_is_chosen_and_has_no_label_any_more_is_said(lab: Lab) -> None:
    open_lab.fn(lab, Simulation(arms={"a": Arm()}))
    with pytest.raises(ConfigError, match="case-gone: the reader of a-1 was to draw them"):
        deliver.fn(lab, 1, ["case-gone"])
    assert not lab.delivery(1).exists()


@pytest.mark.parametrize("reader", [Reader(), Reader(kind="errors", error_mm=1.0)])
def test_where_nobody_has_looked_a_simulated_reader_has_not_either(
    lab: Lab, tmp_path: Path, reader: Reader
) -> None:
    """As background it would be learned, and tested."""
    (lab.source.config / "dataset_D.yaml").write_text("not_annotated: [unseen]\nmodalities: CT,SEG\n")
    lab = replace(lab, arm=Arm(reader=reader))
    series = write_series(tmp_path / "part" / "ct", SHAPE, name="part", patient="P-9")
    hidden = np.zeros(SHAPE, dtype=int)
    hidden[3:] = 2
    drawn = np.where(hidden, 0, ball(SHAPE, (1, 8, 8), 2).astype(int))
    write_segments(tmp_path / "part" / "seg.dcm", series, drawn + hidden, ["GTV", "unseen"])
    take_delivery.fn("D", tmp_path / "part", date(2026, 11, 25))
    open_lab.fn(lab, Simulation(arms={"a": lab.arm}))
    case_id = case_id_of(series.uids["series"])
    deliver.fn(lab, 1, [case_id])
    seg = SegObject(lab.delivery(1) / f"{case_id}.seg.dcm")
    masks = {segment.name: seg.mask(segment, series.grid) for segment in seg.segments}
    np.testing.assert_array_equal(masks[NOT_ANNOTATED], hidden == 2)
    assert masks["GTV"].any()
    assert load_dataset_settings(lab.paths.config, "D").not_annotated == [NOT_ANNOTATED]


def test_a_scan_without_the_structure_is_drawn_as_nothing(lab: Lab, tmp_path: Path) -> None:
    (lab.source.config / "dataset_D.yaml").write_text(
        "missing_structures: {GTV: absent}\nmodalities: CT,SEG\n"
    )
    series = write_series(tmp_path / "none" / "ct", SHAPE, name="none", patient="P-9")
    write_segments(tmp_path / "none" / "seg.dcm", series, ball(SHAPE, (3, 8, 8), 3).astype(int), ["other"])
    take_delivery.fn("D", tmp_path / "none", date(2026, 11, 25))
    open_lab.fn(lab, Simulation(arms={"a": Arm()}))
    case_id = case_id_of(series.uids["series"])
    deliver.fn(lab, 1, [case_id])
    seg = SegObject(lab.delivery(1) / f"{case_id}.seg.dcm")
    assert {s.name: bool(seg.mask(s, series.grid).any()) for s in seg.segments} == {"GTV": False}


def test_a_round_from_scratch_that_was_killed_goes_on_in_its_lineage(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try would begin anew, and a round that takes longer than a session never end."""
    opened: list[str] = []
    monkeypatch.setattr(flows.simulate, "plan", lambda _, new_lineage, why: opened.append(why))
    monkeypatch.setattr(
        flows.simulate, "current_lineage", lambda _: SimpleNamespace(why=opened[-1]) if opened else None
    )
    for number in (2, 2, 3, 3):
        flows.simulate._from_scratch(lab, number)
    assert opened == ["simulated: round 2 from scratch", "simulated: round 3 from scratch"]


def broken(lab: Lab, tmp_path: Path) -> str:
    """A second case, of which no ROI has a name that is looked for, but one that is a patient's."""
    scan = write_series(tmp_path / "more" / "ct", SHAPE, name="more", patient="Xyzzyson")
    write_rois(
        tmp_path / "more" / "rt.dcm", scan, {"GTV_Xyzzyson": ball(SHAPE, (3, 8, 8), 3)}, name="more rt"
    )
    take_delivery.fn("D", tmp_path / "more", date(2026, 11, 25))
    (lab.source.config / "roi_D.yaml").write_text("GTV: ^GTV$\n")
    return case_id_of(scan.uids["series"])


def test_a_reader_who_cannot_draw_a_case_says_so_and_names_nobody(lab: Lab, tmp_path: Path) -> None:
    case = broken(lab, tmp_path)
    open_lab.fn(lab, Simulation(arms={"a": Arm()}))
    with pytest.raises(UserDataError, match=f"cannot draw {case}: missing-roi.*`iterseg prepare D`") as error:
        deliver.fn(lab, 1, [case])
    assert "Xyzzyson" not in str(error.value)
    assert not lab.delivery(1).exists()


def test_a_case_that_was_set_aside_is_not_played_with(lab: Lab, tmp_path: Path) -> None:
    case = broken(lab, tmp_path)
    assert case in truth_of(lab.source)
    rois, settings = check_choices(lab.source.config, "D")
    assembly, _ = state_at(lab.source, settings)
    labelled = pending_cases(assembly, settings, rois)
    for one in assembly.images:
        if one.case_id == case:
            one.settle("rejected", "missing-roi")
    remember_outcomes(lab.source, assembly, labelled)
    assert case not in truth_of(lab.source)
    assert len(truth_of(lab.source)) == 1
