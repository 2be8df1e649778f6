"""Ablations of FFJORD as a posterior: one question each, trained models that answer it, and the answer in a sentence.

Every training is a run of the library's grid, a folder that can be resumed; questions share those that they have in
common. The questions are those of Grathwohl et al. (2019, "FFJORD"), sections 3.1.1, 5 and appendix.
"""

from experiments.ablations.questions import QUESTIONS, Question, Setting, find_questions
from experiments.ablations.report import write_ablations
from experiments.ablations.run import plan_ablations, retest_models

__all__ = [
    "QUESTIONS",
    "Question",
    "Setting",
    "find_questions",
    "plan_ablations",
    "retest_models",
    "write_ablations",
]
