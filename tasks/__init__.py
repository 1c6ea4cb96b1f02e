"""One retryable step each, what several steps share, and the rooms that they stand on."""
