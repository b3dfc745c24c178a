"""Subjects: a character or thing from one picture, cut out and ready to be encoded. No torch is imported here."""

from anystory.subjects.prepare import PreparedSubject, fit_to_square
from anystory.subjects.subject import Subject

__all__ = ["PreparedSubject", "Subject", "fit_to_square"]
