"""``config/notifications.yaml``: who hears of what happens at night."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl

from tasks.settings.yaml_model import Settings, load_yaml

Occasion = Literal["failure", "promotion", "full_queue"]


class NotificationSettings(Settings):
    """A web hook that is sent ``{"text": …}``, as chat services take it."""

    webhook: HttpUrl
    """Where it is sent; the address is a secret of whoever may write there."""
    occasions: list[Occasion] = Field(default=["failure", "promotion", "full_queue"], min_length=1)
    """A run failed or crashed, or was due and did not begin; a model was put into use; jobs wait and none of
    them runs."""


def load_notifications(config_dir: Path) -> NotificationSettings | None:
    """Read ``notifications.yaml``; None where there is none: nobody is told."""
    path = config_dir / "notifications.yaml"
    return load_yaml(path, NotificationSettings) if path.is_file() else None
