"""One retryable step each, and the rooms that they stand on."""
