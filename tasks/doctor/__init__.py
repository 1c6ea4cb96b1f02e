"""What is missing before the first run: each line a verdict, and the mend."""
