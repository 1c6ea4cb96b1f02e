"""What a user chooses about unattended runs: when, where, and what they may cost."""

from __future__ import annotations

from zoneinfo import available_timezones

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from tasks.settings.yaml_model import DATASET_ID, Settings


class Budget(Settings):
    """What a run may cost; what is not finished then goes on in the next."""

    gpu_hours: PositiveFloat | None = None
    """Of training."""
    jobs: PositiveInt | None = None
    """How many jobs of training a run may start; jobs that were lost count, too."""


class NightSettings(Budget):
    """When `iterate/nightly` runs for a dataset, where, and how much it may cost."""

    cron: str
    """Minute, hour, day, month, weekday: ``"0 20 * * *"`` is every evening at eight."""
    timezone: str = "UTC"
    """Of the cron, such as ``Europe/Berlin``."""
    cluster: str = Field(default="local", pattern=f"^{DATASET_ID.pattern}$")
    """A file in `config/clusters/`, without `.yaml`."""
    late_after_h: PositiveFloat = 6
    """A run that would begin more than so many hours late is skipped."""
    on_arrival: Budget | None = None
    """Run as soon as a delivery is complete too (`iterate/on-arrival`), at this cost; left out: by night
    only."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no time zone; write it as Europe/Berlin or UTC")
        return value
