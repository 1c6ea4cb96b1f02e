"""Scores, pictures and the report page: what people look at. Knows neither DICOM nor nnU-Net."""
