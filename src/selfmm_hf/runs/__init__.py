"""One run: from its options to its results, and the folder that it leaves."""
