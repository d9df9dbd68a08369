"""Background error covariances."""
