"""YOLACT: Real-time Instance Segmentation (Bolya et al. 2019, arXiv 1904.02689), written from the paper."""
