"""One session at a time: a feed that is checked, detectors with a state, alerts that are written once."""
