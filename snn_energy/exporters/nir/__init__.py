"""NIR files, read back and run."""
