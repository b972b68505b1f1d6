"""Sections 2 and 4.1: pictures from wherever they lie, made square, cut into patches, fed in a repeatable order."""
