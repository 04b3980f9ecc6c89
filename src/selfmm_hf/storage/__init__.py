"""Files that are written whole and without secrets, locks, and names of repositories."""
