"""Mask R-CNN (arXiv 1703.06870) and, without its mask head, Faster R-CNN (arXiv 1506.01497)."""
