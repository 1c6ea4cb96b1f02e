"""Where everything of a dataset lies. No module of another room puts paths together.

config/roi_<dataset_id>.yaml  dataset_<dataset_id>.yaml  clusters/
data/rawdata/<dataset_id>/<YYYY-MM-DD>__<dataset_id>/          a snapshot
data/procdata/<dataset_id>/<YYYY-MM-DD>__<dataset_id>/         an iteration
data/procdata/<dataset_id>/store/                              cases, addressed by content
data/results/<dataset_id>/latest  ledger/  predictions/  report.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.ledger.dated import DatedName
from tasks.ledger.home import SIMULATIONS, home
from tasks.ledger.iteration_paths import IterationPaths
from tasks.settings.dataset import check_dataset_id
from tasks.settings.yaml_model import DATASET_ID


@dataclass(frozen=True)
class DatasetPaths:
    """Every path of one dataset, a property each."""

    home: Path
    dataset_id: str

    @classmethod
    def of(cls, dataset_id: str) -> DatasetPaths:
        """The paths of a dataset in the home of this process."""
        return cls(home(), check_dataset_id(dataset_id))

    @property
    def others(self) -> list[DatasetPaths]:
        """The other datasets of the same home that have raw data."""
        names = sorted(folder.name for folder in self.rawdata.parent.glob("*/"))
        return [DatasetPaths(self.home, n) for n in names if DATASET_ID.fullmatch(n) and n != self.dataset_id]

    @property
    def config(self) -> Path:
        """The folder of the YAML files."""
        return self.home / "config"

    @property
    def rawdata(self) -> Path:
        """The dataset's snapshots. Identities stand there and in predicted DICOM objects, nowhere else."""
        return self.home / "data" / "rawdata" / self.dataset_id

    @property
    def procdata(self) -> Path:
        """The dataset's iterations and its store."""
        return self.home / "data" / "procdata" / self.dataset_id

    @property
    def lock_folder(self) -> Path:
        """Where the lock of the dataset lies, beside what is computed: the raw data may be read-only."""
        return self.procdata

    @property
    def results(self) -> Path:
        """What a user looks at: ``latest``, predictions, report, and the ledger."""
        return self.home / "data" / "results" / self.dataset_id

    @property
    def simulations(self) -> Path:
        """The homes of simulated labs, with links to the dataset's images."""
        return self.home / "data" / SIMULATIONS / self.dataset_id

    @property
    def simulated_store(self) -> Path:
        """The store that the labs share."""
        return self.simulations / "store"

    @property
    def store(self) -> Path:
        """Converted and preprocessed cases, addressed by content."""
        return self.procdata / "store"

    @property
    def ledger(self) -> Path:
        """What must outlive every iteration: folds, models, what was sent."""
        return self.results / "ledger"

    @property
    def patient_key(self) -> Path:
        """The secret with which patients are hashed; it never leaves the raw data."""
        return self.rawdata / "patient.key"

    @property
    def inbox(self) -> Path:
        """What comes in over the network, until a snapshot takes it."""
        return self.rawdata / "inbox"

    @property
    def set_aside(self) -> Path:
        """Files whose SOP instance UID another file has."""
        return self.rawdata / "set_aside"

    @property
    def deliveries(self) -> Path:
        """The accounts of deliveries that brought nothing to take."""
        return self.rawdata / "deliveries"

    @property
    def doomed(self) -> Path:
        """What a deletion is to delete, while it does."""
        return self.rawdata / "doomed.json"

    @property
    def promotions(self) -> Path:
        """Which model was put into use when."""
        return self.ledger / "promotions.json"

    @property
    def withdrawals(self) -> Path:
        """Patients (keyed hash) and cases that are out."""
        return self.ledger / "withdrawals.json"

    @property
    def patients(self) -> Path:
        """Patient (keyed hash) → fold or test, append only."""
        return self.ledger / "patients.json"

    @property
    def snapshots(self) -> Path:
        """The manifest of each snapshot by its sha256, append only."""
        return self.ledger / "snapshots.json"

    @property
    def cases(self) -> Path:
        """Every case that was ever used, append only."""
        return self.ledger / "cases.json"

    @property
    def labels(self) -> Path:
        """Structure → its number, never given twice, append only."""
        return self.ledger / "labels.json"

    @property
    def lineages(self) -> Path:
        """Which lineages there are and which is being trained, append only."""
        return self.ledger / "lineages.json"

    def lineage(self, number: int) -> Path:
        """The frozen plans of a lineage."""
        return self.ledger / "lineages" / str(number)

    @property
    def last_run(self) -> Path:
        """What the last complete run was made from, so that the next one knows whether there is more."""
        return self.ledger / "last_run.json"

    @property
    def outcomes(self) -> Path:
        """Which cases the last preparation set aside, and why."""
        return self.results / "outcomes.json"

    @property
    def drift(self) -> Path:
        """How far the data have moved from the plans, as it was last asked."""
        return self.results / "drift.json"

    def exported(self, model_id: str) -> Path:
        """A model as a file that plain nnU-Net installs."""
        return self.results / "exports" / f"{self.dataset_id}-{model_id}.zip"

    def imported(self, model_id: str) -> IterationPaths:
        """Where an imported model lies, laid out as the results of an iteration."""
        return IterationPaths(self.procdata / "imported" / model_id)

    @property
    def models(self) -> Path:
        """One record for each model."""
        return self.ledger / "models"

    @property
    def scores(self) -> Path:
        """What each model scored after its record was written; it can be computed again."""
        return self.ledger / "scores"

    @property
    def model_digests(self) -> Path:
        """The digest of each model's record, append only."""
        return self.ledger / "models.json"

    @property
    def iterations(self) -> Path:
        """The digest of each iteration's record, append only."""
        return self.ledger / "iterations.json"

    @property
    def sent(self) -> Path:
        """The predictions that were written, by SOP instance UID."""
        return self.ledger / "sent"

    @property
    def what_an_iteration_is_of(self) -> dict[str, Path]:
        """Name → journal: where each stood is noted in an iteration, and from then on it may only grow."""
        journals = (
            *(self.snapshots, self.cases, self.patients, self.labels, self.withdrawals, self.lineages),
            *(self.refinements, self.acceptances, self.scans),
        )
        return {path.stem: path for path in journals}

    @property
    def scans(self) -> Path:
        """Whose voxels were learned from or tested on, append only."""
        return self.ledger / "scans.json"

    @property
    def refinements(self) -> Path:
        """What became of predictions that came back, append only."""
        return self.ledger / "refinements.json"

    @property
    def acceptances(self) -> Path:
        """Predictions that a person has declared to be right, append only."""
        return self.ledger / "acceptances.json"

    @property
    def marks(self) -> Path:
        """What people have said of images that wait, append only."""
        return self.ledger / "marks.json"

    @property
    def suspects(self) -> Path:
        """Pictures of labels to look at again, made anew where they are gone."""
        return self.results / "suspects"

    @property
    def worklist(self) -> Path:
        """What to correct next, as a table."""
        return self.results / "worklist.csv"

    def delivered(self, destination: str) -> Path:
        """What was sent to a destination, append only."""
        return self.ledger / "delivered" / f"{destination}.json"

    @property
    def latest(self) -> Path:
        """The symlink to the model in use."""
        return self.results / "latest"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.results / "report.html"

    def snapshot(self, name: DatedName | str) -> Path:
        """The folder of one snapshot."""
        return self.rawdata / str(name)

    @property
    def logs(self) -> Path:
        """What the programs printed that IterSeg started."""
        return self.procdata / "logs"

    def log(self, of: str) -> Path:
        """What one of those programs printed."""
        return self.logs / f"{of}.log"

    @property
    def job_logs(self) -> Path:
        """What Slurm's jobs printed."""
        return self.logs / "jobs"

    @property
    def predicted(self) -> Path:
        """The predictions of all models."""
        return self.results / "predictions"

    def predictions(self, model_id: str) -> Path:
        """The predictions that one model made."""
        return self.predicted / model_id

    def iteration(self, name: DatedName) -> IterationPaths:
        """The paths of one iteration."""
        return self.iteration_named(str(name))

    def iteration_named(self, name: str) -> IterationPaths:
        """The same, of one that a record names."""
        return IterationPaths(self.procdata / name)
