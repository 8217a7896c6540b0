"""Segment Anything (Kirillov et al. 2023, arXiv 2304.02643) and MobileSAM (arXiv 2306.14289)."""
