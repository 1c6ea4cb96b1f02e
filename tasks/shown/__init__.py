"""What is shown of a run while it runs: artifacts and events in Prefect's UI, progress on a terminal."""
