"""Makes data sets of features from folders of clips."""
