"""The report of a run or a study, as one HTML file made from run folders; needs ``pip install 'mmbert[report]'``."""
