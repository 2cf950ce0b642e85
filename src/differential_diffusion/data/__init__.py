"""Data: training pictures, crops, and degradations with known truth."""
