"""Masks of subjects in an existing picture, by reference: how routing maps become them (docs/segment.md)."""
