"""ImageBind's towers (Girdhar et al. 2023, arXiv:2305.05665), written from the paper and the names of its weights."""
