"""The investigator's page and its API over a gallery, beside a run or alone."""
