"""Densities of tables: the user's own, and the five that the literature on flows compares by."""

from experiments.density.tabular.data import TabularData, is_table, load_table
from experiments.density.tabular.published import PUBLISHED
from experiments.density.tabular.report import write_tables
from experiments.density.tabular.run import MODELS, run_table
from experiments.density.tabular.settings import TabularSettings

__all__ = [
    "MODELS",
    "PUBLISHED",
    "TabularData",
    "TabularSettings",
    "is_table",
    "load_table",
    "run_table",
    "write_tables",
]
