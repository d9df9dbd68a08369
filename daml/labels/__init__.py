"""The door between labelled Datasets and arrays: names, times, settings as text."""
