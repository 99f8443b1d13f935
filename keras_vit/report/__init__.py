"""Reports: HTML pages of runs, analyses and robustness curves, and model cards, from results of the other parts."""
