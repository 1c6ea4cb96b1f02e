"""What a user chooses: the YAML files of ``config/``, each validated by one pydantic model."""
