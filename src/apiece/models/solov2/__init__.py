"""SOLOv2: Dynamic and Fast Instance Segmentation (Wang et al. 2020, arXiv 2003.10152), written from the paper."""
