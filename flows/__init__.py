"""In which order: one Prefect flow a stage, and the command line."""
