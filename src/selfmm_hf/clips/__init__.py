"""From folders of clips to data sets of features."""
