"""The report of a study: one self-contained page, drawn by ECharts, with Optuna's numbers."""
