"""Section 6: views, errors and ensembles."""
