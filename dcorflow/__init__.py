"""dcorflow: from raw deformability cytometry measurements to published DCOR datasets."""

__version__ = "0.1.0"
