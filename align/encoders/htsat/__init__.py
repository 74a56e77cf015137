"""HTSAT (Chen et al. 2022, arXiv:2202.00874), with the fusion of LAION's CLAP (Wu et al. 2023, arXiv:2211.06687)."""
