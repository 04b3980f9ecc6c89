"""The unimodal labels that Self-MM generates, and how good they are."""
