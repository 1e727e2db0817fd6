"""The report: one HTML file for a run or a study. It reads run folders only; needs ``pip install 'mmbert[report]'``."""
