"""What a study found: tables, charts, loading a trained model, checking the trackers."""
