"""The textbook chapter's case study, its three kinds of anomaly, and public labelled series (notebook 10)."""
