"""Mask2Former: Masked-attention Mask Transformer (Cheng et al. 2021, arXiv 2112.01527), written from the paper."""
