"""Semantic segmentation and connected components: the baseline that instance segmentation has to beat.

Panoptic FPN's semantic branch (Kirillov et al. 2019, arXiv 1901.02446, section 3.1), written from the paper. Two
objects of a class that touch are one here: that is what the baseline cannot do, and what it measures.
"""
