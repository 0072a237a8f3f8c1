"""What a study found: tables, the report, loading a trained model, checking the trackers."""
